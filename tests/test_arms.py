"""Arms of the identity benchmark: each is a command that the product takes, and figures are of pairs of videos."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from benchmarks.identity import arm_figures, join_arms, validation_predicts
from benchmarks.identity.arm_list import ARMS, EXTRAS, PARTS
from benchmarks.identity.arms import ENCODERS, SIZE
from benchmarks.identity.pasted_heads import DANCER, paste_heads
from faceid.config import parse_sections
from faceid.data.body.sidecars import read_heads
from faceid.data.clips.pairs import find_pairs
from faceid.errors import ConfigError, DataError
from faceid.files.documents import read_json
from faceid.files.writing import write_json
from faceid.media.video import read_video
from faceid.sampling.render_sections import SECTIONS as RENDER
from faceid.sampling.render_sections import RenderSections
from faceid.toy.dataset import write_toy_dataset
from faceid.toy.toy_settings import ToyClipSettings, ToySettings
from faceid.training.checks.run_sections import SECTIONS as TRAIN
from faceid.training.checks.run_sections import RunSections


@pytest.mark.parametrize("arm", [arm for arm in ARMS.values() if arm.train], ids=lambda arm: arm.name)
def test_what_an_arm_trains_is_a_command_and_differs_from_the_recipe_by_its_flags_alone(arm):
    given = [
        "--config",
        "configs/demo.yaml",
        "--output_dir",
        "run",
        "--face_embedding",
        "e",
        "--latents",
        "l",
        "--shards",
        "s",
    ]
    encoder = ["--encoder_path", ENCODERS[arm.encoder]]
    recipe, changed = (
        RunSections(*parse_sections("train.py", "", TRAIN, [*given, *encoder, *flags])) for flags in ((), arm.train)
    )
    named = {word.removeprefix("--") for word in arm.train if word.startswith("--")}
    differing = {
        name
        for one, other in zip(vars(recipe).values(), vars(changed).values(), strict=True)
        for name in vars(one)
        if getattr(one, name) != getattr(other, name)
    }
    assert differing <= named
    # A part that is off already would be no ablation of it.
    assert differing or not arm.is_described or arm.has_pasted_heads or arm.name.startswith("ours_")


def test_every_part_of_the_recipe_has_its_ablation_and_every_arm_an_adapter():
    assert {f"without_{part}" for part in PARTS} | {f"with_{part}" for part in EXTRAS} <= set(ARMS)
    for arm in ARMS.values():
        assert bool(arm.train) + bool(arm.trained_by) + bool(arm.adapter and not arm.train) == 1
        assert not arm.trained_by or ARMS[arm.trained_by].train


@pytest.mark.parametrize("arm", ARMS.values(), ids=lambda arm: arm.name)
def test_how_an_arm_renders_is_a_command(arm):
    words = [
        "--batch",
        "--model_path",
        "toy",
        "--seed",
        "per_video",
        "--jobs",
        "j.jsonl",
        "--output_dir",
        "o",
        *SIZE,
        "--fps",
        "16",
    ]
    parsed = parse_sections("sample.py", "", RENDER, [*words, "--identities_dir", "i", *arm.sample], RenderSections)
    assert parsed is not None


def test_differences_are_of_pairs_and_attributes_lie_between_the_base_and_real_clips(tmp_path, monkeypatch):
    """Two people; ours is a cosine of 0.3 above the base in each pair, and its eyes are half of the way."""
    truth, start = np.ones(31), np.zeros(31)
    eyes = [place for place, name in enumerate(arm_figures.APPEARANCE) if name.startswith(("iris_", "eye_"))]
    half = start.copy()
    half[eyes] = 1 - 0.5**0.5
    names = ["arm", "recogniser", "clip", "seed", "scored_as", *arm_figures.FIGURES, "video"]
    rows = []
    for person, own in (("a", 0.1), ("b", 0.5)):
        for judge in arm_figures.JUDGES:
            for arm, gain in (("base", 0.0), ("ours_from_nothing", 0.3), ("real", 0.4)):
                for clip in ("x", "y"):
                    row = [arm, judge, clip, 7, person, 1, own + gain, 0.1, "" if arm == "real" else 0.2]
                    folder = "clips" if arm == "real" else person
                    rows.append([*row, f"{arm}/{folder}/{clip}.mp4"])
    # In no figure: what others than the targets score, and what a render of one target scores as another.
    rows.append(["base", arm_figures.JUDGES[0], "x", 7, "stranger", 1, 9.0, 9.0, 9.0, "base/a/x.mp4"])
    rows.append(["base", arm_figures.JUDGES[0], "x", 8, "b", 1, 9.0, 9.0, 9.0, "base/a/x.mp4"])
    for arm in ("real", "base", "ours_from_nothing"):
        (tmp_path / "judged" / arm).mkdir(parents=True)
        with (tmp_path / "judged" / arm / "videos.csv").open("w", newline="") as text:
            csv.writer(text).writerows([names, *(row for row in rows if row[0] == arm)])
    read = {"real": truth, "base": start, "ours_from_nothing": half}
    monkeypatch.setattr(
        arm_figures, "_read_attributes", lambda folder, rows: {row[-1]: read[row[0]] for row in map(list, _all(rows))}
    )
    monkeypatch.setattr(arm_figures, "_costs", lambda *_: {"train_seconds": 2.0, "train_steps": 3})
    plans = [ARMS["base"], ARMS["ours_from_nothing"]]
    record, table, rows = arm_figures.measure_arms(tmp_path, plans, ["a", "b"], lambda step: 1.0)
    assert record["arms"]["base"]["toy_recogniser"]["similarity"]["value"] == pytest.approx(0.3)
    ours = record["arms"]["ours_from_nothing"]
    assert ours["toy_recogniser"]["similarity"]["value"] == pytest.approx(0.6)
    assert ours["attributes"]["eyes"] == pytest.approx(0.5) and ours["attributes"]["skin"] == 0
    (difference,) = record["differences"].values()
    gain = difference["toy_readout"]["similarity"]
    # The people differ by 0.4, the pairs do not: paired, the interval is narrow.
    assert (gain["value"], gain["low"], gain["high"]) == pytest.approx((0.3, 0.3, 0.3))
    assert difference["toy_readout"]["pairs"] == 4
    assert "| ours_from_nothing | 1.000 (1.00 … 1.00) | 0.600 (0.40 … 0.80)" in table
    # Measured anew without ours, and joined with what was measured before: the same.
    settings = {"num_targets": 2, "world": 3}
    write_json(tmp_path / "arms.json", {"settings": settings, **record})
    arm_figures.write_rows(tmp_path / f"arms{arm_figures.VIDEOS_SUFFIX}", rows)
    told = read_json(tmp_path / "arms.json")
    earlier = arm_figures.read_earlier(tmp_path / "arms.json", told, settings)
    again, table_again, _ = arm_figures.measure_arms(tmp_path, plans[:1], ["a", "b"], lambda step: 1.0, earlier)
    assert again["differences"] == record["differences"] and again["arms"] == record["arms"]
    assert sorted(table_again.splitlines()) == sorted(table.splitlines())
    # Two worlds of the same figures, as one: twice as many people.
    joined = join_arms.join_worlds({3: earlier, 5: earlier})
    both, _ = arm_figures.compare_arms(joined.rows, joined.costs)
    ours_in_both = both["arms"]["ours_from_nothing"]["toy_recogniser"]
    assert ours_in_both["videos"] == 2 * ours["toy_recogniser"]["videos"]
    assert ours_in_both["similarity"]["value"] == ours["toy_recogniser"]["similarity"]["value"]
    (difference,) = both["differences"].values()
    assert difference["toy_readout"]["pairs"] == 8 and joined.costs["ours_from_nothing"]["train_steps"] == 3
    other = tmp_path / "other" / "arms.json"
    other.parent.mkdir()
    write_json(other, {"settings": {**settings, "world": 5}, **record, "commit": "c"})
    arm_figures.write_rows(other.with_suffix(arm_figures.VIDEOS_SUFFIX), rows)
    write_json(tmp_path / "arms.json", {"settings": settings, **record, "commit": "c"})
    words = ["--records", f"[{tmp_path / 'arms.json'}, {other}]", "--output_dir", str(tmp_path / "both")]
    assert join_arms.main(words) == 0
    written = read_json(tmp_path / "both/arms.json")
    assert written["arms"] == both["arms"] and written["settings"] == {"num_targets": 2, "worlds": [3, 5]}
    with pytest.raises(ConfigError, match=r"records: are of the worlds \[3, 3\]"):
        join_arms.main(["--records", f"[{tmp_path / 'arms.json'}, {tmp_path / 'arms.json'}]", *words[2:]])
    with pytest.raises(DataError, match="records: the worlds have other arms"):
        join_arms.join_worlds({3: earlier, 5: arm_figures.Earlier({}, {"base": {}})})
    with pytest.raises(DataError, match=r"earlier=.*arms\.json: has world=3, here it is 4"):
        arm_figures.read_earlier(tmp_path / "arms.json", told, {"world": 4})


def test_checkpoints_of_one_person_are_compared_with_each_other():
    """A person who is liked less by the judge, and validated higher: over all no order, within a person all of it."""
    rows = [
        {"run": f"{arm}/{person}", "swap_gap_target": high + gain, "toy_readout": low + gain}
        for person, high, low in (("a", 0.0, 9.0), ("b", 9.0, 0.0))
        for arm, gain in (("ours", 2.0), ("naive", 1.0))
    ]
    rows.append({"run": "ours/a", "toy_readout": 5.0})
    centred = validation_predicts.within_people(rows, "swap_gap_target", "toy_readout")
    over_all, within = (validation_predicts.spearman(of, "swap_gap_target", "toy_readout") for of in (rows, centred))
    assert over_all < 0 and within == pytest.approx(1) and len(centred) == 4


def _all(rows):
    return [
        (arm, row["video"])
        for (arm, judge), of in rows.items()
        if judge == arm_figures.JUDGES[0]
        for row in of.values()
    ]


@pytest.mark.slow
def test_a_pasted_head_is_the_targets_where_the_dancers_was_and_nothing_else_changes(tmp_path):
    world = tmp_path / "world"
    clips = ToyClipSettings(clips_per_person=1, height=96, width=96, num_frames=5, framings=["upper", "whole"])
    write_toy_dataset(ToySettings(output_dir=world, num_people=2, photos_per_person=4), clips)
    paste_heads(world, world / "photos/target", tmp_path / "pasted", seed=1)
    pairs = find_pairs(tmp_path / "pasted/videos", tmp_path / "pasted/poses").pairs
    assert len(pairs) == 2 and {pair.dancer for pair in pairs} == {DANCER}
    for clip, pair in zip(sorted((world / "videos").glob("*.mp4")), pairs, strict=True):
        before, after = read_video(clip).frames.astype(int), read_video(pair.video).frames.astype(int)
        boxes = read_heads(pair.video.with_suffix(".heads.json"), (96, 96))
        for one, other, box in zip(before, after, boxes, strict=True):
            x0, y0, x1, y1 = (round(edge) for edge in box)
            moved = np.abs(other - one).mean(-1)
            inside = moved[y0:y1, x0:x1].mean()
            # Two encodings of one picture differ by a few levels.
            outside = np.concatenate([moved[: max(y0 - 8, 0)].ravel(), moved[y1 + 8 :].ravel()]).mean()
            assert inside > 20 and outside < 4
