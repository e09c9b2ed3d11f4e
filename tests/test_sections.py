"""Settings are small, each decides one thing, and a function takes what it uses: measured on the source by `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_FIELDS, MOST_ARGUMENTS = 16, 7
# Functions that take a section for less than half of it, and why.
FACES = "still one class for the encoder, the detector and the photos"
SIZES = "the size of a clip: three of seven options"
TOY = "the toy's people, photos and clips are asked for by one tool alone"
ALLOWED = {
    "of_selection": "three options have no effect by one of the six",
    "_heads": SIZES,
    "_warnings": SIZES,
    "bytes_per_clip": SIZES,
    "_warn_of_poor_fit": SIZES,
    "write_face_bank": FACES,
    "find_films": "how films are cropped, beside which ones take part",
    "_fit_of": "how a film is cropped: three of seven options",
    "_choices": FACES,
    "encoder_of": FACES,
    "lora_targets": "what of the adapter a LoRA file of any tool is held to",
    "_numbers": TOY,
    "_write_photos": TOY,
    "_write_references": TOY,
}


@dataclass
class Section:
    """A settings class. uses: of each method and property, the fields that it looks at."""

    fields: set[str]
    uses: dict[str, set[str]] = field(default_factory=dict)

    def used_by(self, name: str) -> set[str]:
        """Fields that are looked at by asking for this name."""
        return {name} if name in self.fields else self.uses.get(name, set())


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((REPOSITORY / "faceid").rglob("*.py")):
        yield path.relative_to(REPOSITORY).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def settings_classes() -> dict[str, Section]:
    found: dict[str, Section] = {}
    bases: dict[str, list[str]] = {}
    for _, tree in sources():
        validated = "from pydantic.dataclasses import dataclass" in ast.unparse(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and (
                node.name.endswith(("Settings", "Sampling")) or (validated and "dataclass" in _decorators(node))
            ):
                found[node.name] = _section(node)
                bases[node.name] = [ast.unparse(base) for base in node.bases]
    for name, above in bases.items():
        # One level is enough for what is allowed: none.
        for base in above:
            found[name].fields |= found[base].fields if base in found else set()
    return found


def _decorators(node: ast.ClassDef) -> str:
    return " ".join(ast.unparse(decorator) for decorator in node.decorator_list)


def _section(node: ast.ClassDef) -> Section:
    named = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    section = Section({each.target.id for each in named if "ClassVar" not in ast.unparse(each.annotation)})
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    # Twice: a method may ask another one.
    for method in [*methods, *methods]:
        names = {each.attr for each in ast.walk(method) if isinstance(each, ast.Attribute)}
        section.uses[method.name] = set().union(*(section.used_by(name) for name in names))
    return section


def less_than_half(tree: ast.Module, classes: dict[str, Section]) -> Iterator[tuple[str, str, int, int]]:
    """(function, section, fields used, fields) of each parameter of which a function uses less than half."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
            annotation = ast.unparse(argument.annotation).partition(" |")[0] if argument.annotation else ""
            if annotation in classes:
                used = _used(function, argument.arg, classes[annotation])
                of = len(classes[annotation].fields)
                if used is not None and 2 * len(used) < of:
                    yield function.name, annotation, len(used), of


def _used(function: ast.FunctionDef, name: str, section: Section) -> set[str] | None:
    """The fields that a function looks at; None where it hands the section on as a whole."""
    used: set[str] = set()
    asked = [each for each in ast.walk(function) if isinstance(each, ast.Attribute)]
    of_name = [each for each in asked if isinstance(each.value, ast.Name) and each.value.id == name]
    alone = {id(each.value) for each in of_name}
    for each in ast.walk(function):
        if isinstance(each, ast.Name) and each.id == name and id(each) not in alone:
            return None
    for each in of_name:
        used |= section.used_by(each.attr)
    return used


def test_no_settings_class_has_more_fields_than_one_can_take_in():
    classes = settings_classes()
    sizes = {name: len(section.fields) for name, section in classes.items()}
    assert len(sizes) > 15 and {name: size for name, size in sizes.items() if size > MOST_FIELDS} == {}


@pytest.mark.slow
def test_a_function_takes_no_section_of_which_it_uses_less_than_half():
    classes = settings_classes()
    found = {
        function: f"{path}: {used} of {of} fields of {section}"
        for path, tree in sources()
        for function, section, used, of in less_than_half(tree, classes)
    }
    assert {name: what for name, what in found.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) <= set(found), "no longer so: take it out"


PLANTED = {
    "def f(a: SomeSettings): return a.one": True,
    "def f(a: SomeSettings | None = None): return a.one": True,
    "def f(a: SomeSettings): return a.one + a.two": False,
    "def f(a: SomeSettings): return a.both()": False,
    "def f(a: SomeSettings): return g(a)": False,
    "def f(a: int): return a.one": False,
}


@pytest.mark.parametrize("source", PLANTED)
def test_a_planted_one_is_found(source):
    made = ast.parse(
        "class SomeSettings:\n    one: int\n    two: int\n    three: int\n    four: int\n"
        "    def both(self):\n        return self.again\n    def again(self):\n        return self.one + self.two"
    )
    classes = {"SomeSettings": _section(made.body[0])}
    assert bool(list(less_than_half(ast.parse(source), classes))) == PLANTED[source]


# Rooms whose functions still take more arguments than that.
LATER = ("faceid/data/", "faceid/models/adapter/")


@pytest.mark.slow
def test_no_function_takes_more_arguments_than_a_dataclass_would_hold():
    many = {}
    for path, tree in sources():
        for each in ast.walk(tree):
            if isinstance(each, ast.FunctionDef) and not path.startswith(LATER):
                taken = [a.arg for a in (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs)]
                if len(set(taken) - {"self", "cls"}) > MOST_ARGUMENTS:
                    many[f"{path}::{each.name}"] = len(taken)
    assert many == {}
