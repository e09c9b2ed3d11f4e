"""Phrases: what a file may say, and that both shipped lists are whole."""

from __future__ import annotations

import pytest

from faceid.description.phrases import SHIPPED, read_phrases
from faceid.errors import ConfigError
from faceid.models.prompt_phrases import join_phrases
from faceid.toy.descriptions import describe, description_phrases, phrase_groups
from faceid.toy.people import draw_person

# Of one to four of them: 60, 3,600, 12 million.
VALUES = [f"v{n}" for n in range(60)]


def test_each_value_is_spelt_out_in_each_phrase(tmp_path):
    file = tmp_path / "phrases.yaml"
    file.write_text(
        "values: {hair: [red, grey], hat: [blue]}\ngroups: {hair: ['a {hat} cap over {hair} hair', bald]}\n"
    )
    phrases = read_phrases(file)
    assert phrases.groups == {"hair": ("a blue cap over red hair", "a blue cap over grey hair", "bald")}
    assert len(phrases) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: {}", "no phrase"),
        ("groups: {hair: []}", "hair: no phrase"),
        ("groups: {hair: [' ']}", "or an empty one"),
        ("groups: {hair: ['{colour} hair']}", "colour"),
        ("groups: {hair: ['{0.__class__} hair']}", "is none of values"),
        ("groups: {hair: ['{} hair']}", "is none of values"),
        ("values: {c: [red]}\ngroups: {hair: ['{c:>999999999} hair']}", "is none of values"),
        ("values: {c: [red]}\ngroups: {hair: ['{c!r} hair']}", "is none of values"),
        ("values: {c: [red]}", "groups: no phrase"),
        ("", "it is no mapping"),
        ("words", "it is no mapping"),
        ("groups: {hair: [a]}\nvalue: {}", "value: unknown"),
        ("groups: {hair: a}", "groups"),
        ("- a", "not a file of phrases: it is no mapping; it looks like: groups"),
        (f"values: {{n: &n {VALUES}, m: *n, o: *n, p: *n}}\ngroups: {{a: ['{{n}}{{m}}{{o}}{{p}}']}}", "more than 5000"),
        (f"values: {{n: &n {VALUES}, m: *n}}\ngroups: {{a: ['{{n}}{{m}}'], b: ['{{n}}{{m}}']}}", "more than 5000"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, said):
    file = tmp_path / "phrases.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"phrases=.*phrases\.yaml.*{said}"):
        read_phrases(file)


def test_a_value_stands_for_itself_wherever_its_name_is_and_no_phrase_is_twice(tmp_path):
    file = tmp_path / "phrases.yaml"
    file.write_text("values: {c: [red, blue]}\ngroups: {hair: ['{c} hair and {c} eyes', red hair and red eyes]}\n")
    assert read_phrases(file).groups == {"hair": ("red hair and red eyes", "blue hair and blue eyes")}


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"phrases: .*none\.yaml: cannot be read"):
        read_phrases(tmp_path / "none.yaml")


def test_the_embedded_base_can_be_told_every_phrase_of_its_language():
    phrases = phrase_groups()
    for seed in range(200):
        for group, phrase in description_phrases(draw_person(seed)).items():
            assert phrase in phrases[group], phrase
    person = draw_person(3)
    assert join_phrases("a person", description_phrases(person).values()) == describe(person)


def test_the_phrases_for_real_people_are_a_file_of_phrases_and_no_phrase_is_twice():
    phrases = read_phrases(SHIPPED)
    every = [phrase for of in phrases.groups.values() for phrase in of]
    assert len(set(every)) == len(every) == len(phrases) > 100


def test_nothing_is_added_where_nothing_is_said():
    assert join_phrases("a person", ["", ""]) == "a person"
    assert join_phrases("a person", ["", "red hair"]) == "a person with red hair"
