"""Which clips take part, and that no person is in two parts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from faceid.data.aist import read_name_list
from faceid.data.clip_selection import select, split_people
from faceid.data.selection_settings import SelectionSettings
from faceid.errors import ConfigError, DataError

GENRE_OF = {
    f"d{n:02d}": genre for n, genre in zip(range(1, 31), [g for g in "ABCDEFGHIJ" for _ in range(3)], strict=True)
}
HELD_OUT = {"validation_people": 4, "test_people": 10}


@dataclass(frozen=True)
class Clip:
    stem: str
    dancer: str
    genre: str | None = None


def clips_of_everybody():
    return [Clip(f"{dancer}_{n}", dancer, genre) for dancer, genre in GENRE_OF.items() for n in range(2)]


def taken(split, **changes):
    settings = SelectionSettings(split=split, **{**HELD_OUT, **changes})
    return {clip.dancer for clip in select(clips_of_everybody(), settings)[0]}


def test_no_person_is_in_two_parts_and_everybody_is_in_one():
    parts = [taken(split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [16, 4, 10]
    assert set.union(*parts) == set(GENRE_OF) and sum(map(len, parts)) == 30


def test_ten_test_people_are_one_of_each_genre():
    assert {GENRE_OF[dancer] for dancer in taken("test")} == set("ABCDEFGHIJ")


def test_another_seed_draws_other_people_and_the_same_seed_the_same():
    assert taken("test") == taken("test") != taken("test", split_seed=1)


def test_the_order_in_which_people_come_changes_nothing():
    settings = SelectionSettings(split="train", **HELD_OUT)
    assert split_people(GENRE_OF, settings) == split_people(dict(reversed(GENRE_OF.items())), settings)


def test_holding_out_everybody_is_refused():
    with pytest.raises(DataError, match="there are 30 people, and one at least must be left"):
        taken("train", test_people=26)


@pytest.mark.parametrize("chosen", [{"split": "train"}, {"split": "validation", "test_people": 3}])
def test_a_part_that_is_empty_by_its_settings_is_refused(chosen):
    with pytest.raises(ConfigError, match="_people"):
        SelectionSettings(**chosen)


def test_lists_choose_sequences_whatever_the_camera(tmp_path, caplog):
    stems = [f"gBR_sBM_c0{camera}_d04_mBR0_ch0{dance}_clip_000" for camera in (1, 2) for dance in (1, 2, 3)]
    clips = [Clip(stem, "d04") for stem in stems]
    only, ignore = tmp_path / "crossmodal_train.txt", tmp_path / "ignore.txt"
    only.write_text("gBR_sBM_cAll_d04_mBR0_ch01\ngBR_sBM_cAll_d04_mBR0_ch02")
    ignore.write_text("gBR_sBM_cAll_d04_mBR0_ch02.json\n")
    kept, left = select(clips, SelectionSettings(only_list=only, ignore_list=[ignore]))
    assert [clip.stem for clip in kept] == [stem for stem in stems if "ch01" in stem]
    assert sorted(entry.kind for entry in left) == ["not on the list"] * 2 + ["on the ignore list"] * 2
    assert "1 of its 1 people are also in the clips it leaves out, such as d04" in caplog.text


@pytest.mark.real_data
def test_the_usual_split_of_aist_is_said_to_share_people(real_data, caplog):
    lists = [real_data / "aist" / f"edge_crossmodal_{part}.txt" for part in ("train", "test")]
    clips = [Clip(n.sequence, n.dancers[0], n.genre) for path in lists for n in read_name_list(path)]
    kept, _ = select(clips, SelectionSettings(only_list=lists[1]))
    assert len(kept) == 20 and "people are also in the clips it leaves out" in caplog.text
    caplog.clear()
    kept, _ = select(clips, SelectionSettings(split="test", test_people=10))
    assert len({clip.dancer for clip in kept}) == 10 and "also in the clips" not in caplog.text
