"""What an evaluation can be asked for, checked before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_renders import sections_of

from faceid.config import parse_sections
from faceid.errors import ConfigError
from faceid.evaluation.evaluation_sections import SECTIONS

GIVEN = {"renders": ["a=x", "b=y"], "references_dir": "r", "recognisers": ["onnx:f.onnx"], "output_dir": "o"}
FLAGS = ["--references_dir", "r", "--recognisers", "[onnx:f.onnx, toy_readout]", "--output_dir", "o"]


def test_arms_are_read_in_the_order_of_the_command_line():
    read, _, recognisers, *_ = parse_sections(
        "evaluate", "", SECTIONS, ["--renders", "[ours=out/a, base=out/b]", *FLAGS]
    )
    assert list(read.arm_folders().items()) == [("ours", [Path("out/a")]), ("base", [Path("out/b")])]
    assert recognisers.recognisers == ["onnx:f.onnx", "toy_readout"]


def test_arms_are_read_from_yaml(tmp_path):
    (tmp_path / "e.yaml").write_text("renders:\n- ours=out/a\n- base=out/b\nbase: base\n")
    read, *_ = parse_sections("evaluate", "", SECTIONS, ["--config", str(tmp_path / "e.yaml"), *FLAGS])
    assert list(read.arm_folders()) == ["ours", "base"] and read.roles() == {"base": "base"}


def test_a_name_given_twice_is_one_arm_of_two_folders():
    read = sections_of({**GIVEN, "renders": ["a=x", "b=y", "a=z"]}).arms
    assert read.arm_folders() == {"a": [Path("x"), Path("z")], "b": [Path("y")]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"renders": ["out/a"]}, "renders: 'out/a' is not name=folder"),
        ({"renders": []}, "renders: is empty"),
        ({"recognisers": []}, "recognisers: is empty"),
        ({"recognisers": ["toy_readout", "toy_readout"]}, "names one twice"),
        ({"naive": "c"}, "naive=c: not an arm; --renders names a, b"),
        ({"start": "c"}, "start=c: not an arm; --renders names a, b"),
        ({"joints_dir": "j", "driver_videos_dir": "d"}, "give one of them, not both"),
        ({"pose_reader": "toy"}, "pose_reader=toy: has nothing to compare with"),
        ({"adapter": "x.pth", "conditioning_fingerprint": "0"}, "give one of them, not both"),
        ({"bootstrap_samples": 10}, "bootstrap_samples=10"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        sections_of({**GIVEN, **changes})
    assert message in str(refusal.value)
