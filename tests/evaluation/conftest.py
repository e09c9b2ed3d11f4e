"""A world of drawn "renders" with known answers, scored by a real ONNX model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from drawn_renders import PEOPLE, settings_of, write_arm, write_controls, write_grid_model, write_references


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Arms in which everybody, nobody or some are shown rightly; references, controls and a recogniser."""
    folder = tmp_path_factory.mktemp("world")
    write_references(folder / "references", 4)
    write_controls(folder / "controls")
    write_grid_model(folder / "grid.onnx")
    people = list(PEOPLE)
    write_arm(folder / "base", [""], lambda given: "bob", face_scale=0.0)
    write_arm(folder / "plain", [""], lambda given: "bob", face_scale=0.0)
    # Halfway, half of the people come out.
    write_arm(folder / "half", people, lambda given: given if given in ("bob", "eve") else "bob", face_scale=0.5)
    write_arm(folder / "ours", people)
    write_arm(folder / "naive", people, lambda given: "d01")
    write_arm(folder / "wrong", ["d01", "eve"])
    write_arm(folder / "real", ["d01"])
    return folder


@pytest.fixture
def settings(world, tmp_path):
    """Makes settings for arms of the world; a value of None leaves a key out."""
    return partial(settings_of, world, tmp_path / "out")
