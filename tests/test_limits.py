"""Every number that a flag takes has both ends, in every command; and what a flag refuses is said in our words."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from calling import command_module
from pydantic import TypeAdapter, ValidationError

from faceid import limits

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = ["train.py", "sample.py", *sorted(f"tools/{path.name}" for path in (REPOSITORY / "tools").glob("[a-z]*.py"))]
RATES = ("fps",)
COUNTS = ("num_frames",)


class _Parsed(Exception):
    pass


def sections_of(command: str, monkeypatch) -> list[type]:
    """The settings classes that a command reads."""
    module, found = command_module(command), []

    def stop(prog, description, sections, argv, *check):
        found.extend(sections)
        raise _Parsed

    monkeypatch.setattr(module, "parse_sections", stop)
    with pytest.raises(_Parsed):
        module.main([])
    return found


def fields_of(section: type) -> dict[str, Any]:
    hints = get_type_hints(section, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def open_ends(hint: Any, ends: frozenset[str] = frozenset()) -> bool:
    """Whether a type has a number without a lowest or a highest."""
    if get_origin(hint) is Annotated:
        found = {name for info in hint.__metadata__ for one in info.metadata for name in vars_of(one)}
        return open_ends(get_args(hint)[0], frozenset(found))
    if hint in (int, float):
        return not ({"ge", "gt"} & ends and {"le", "lt"} & ends)
    return any(
        open_ends(inner) for inner in get_args(hint) if inner is not bool and get_origin(hint) is not typing.Literal
    )


def vars_of(constraint: Any) -> set[str]:
    return {name for name in ("ge", "gt", "le", "lt") if hasattr(constraint, name)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_both_ends(command, monkeypatch):
    for section in sections_of(command, monkeypatch):
        fields = fields_of(section)
        assert [name for name, hint in fields.items() if open_ends(hint)] == [], section
        for name in {*RATES, *COUNTS} & fields.keys():
            for value in (0, 1e-300, 1e30, float("nan")) if name in RATES else (0, 10**23):
                with pytest.raises(ValidationError):
                    TypeAdapter(fields[name]).validate_python(value)


def test_a_number_without_an_end_is_found():
    assert open_ends(int) and open_ends(float | None) and open_ends(list[int]) and open_ends(tuple[float, float])
    assert not open_ends(limits.Rate | None) and not open_ends(bool) and not open_ends(list[limits.Seed] | limits.Seed)


def test_no_command_starts_more_processes_than_a_machine_has_use_for(monkeypatch):
    (workers,) = [
        fields["num_workers"] for s in sections_of("train.py", monkeypatch) if "num_workers" in (fields := fields_of(s))
    ]
    with pytest.raises(ValidationError):
        TypeAdapter(workers).validate_python(limits.MOST_PROCESSES + 1)
