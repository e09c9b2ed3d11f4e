"""What an evaluation refuses or says before any video is measured, and what it measures beside known heads."""

from __future__ import annotations

import csv
import json

import pytest
from drawn_renders import write_arm, write_jobs

from faceid.errors import ConfigError, DataError
from faceid.evaluation.evaluation_run import check_inputs, evaluate
from faceid.evaluation.videos import renders

# A recogniser that is not there: whoever gets as far as loading it fails with another message.
ABSENT = ["onnx:absent.onnx"]


SHARED_NOISE = "videos of 1 noises; the noise may decide who appears: render with --seed per_video"


def said(settings, caplog) -> list[str]:
    """What is warned about these settings, but for the noise, which all videos of the drawn arms share."""
    caplog.clear()
    with caplog.at_level("WARNING", "faceid"):
        check_inputs(settings)
    return [message for message in caplog.messages if SHARED_NOISE not in message]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_base_render_without_a_partner_is_named_before_any_work(settings, world, tmp_path, dry_run):
    rows = [json.loads(row) for row in (world / "plain" / "jobs.jsonl").read_text().splitlines()]
    write_arm(tmp_path / "fewer", [""], lambda given: "bob", face_scale=0.0)
    write_jobs(tmp_path / "fewer", rows[:1])
    made = settings(
        renders=[f"base={world / 'base'}", f"fewer={tmp_path / 'fewer'}"],
        base="base",
        unadapted_base="fewer",
        recognisers=ABSENT,
        dry_run=dry_run,
    )
    with pytest.raises(DataError, match="unadapted_base=fewer: no render of gPO_sBM_c01_d01_mPO1_ch02 with seed 1"):
        evaluate(made)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recognisers": [*ABSENT, "foo"]}, "recognisers: 'foo' is none; use clip:PATH"),
        ({"pose_reader": "foo.txt", "joints_dir": "controls"}, "pose_reader=foo.txt: must be none, toy, or the .onnx"),
    ],
)
def test_an_unknown_name_is_refused_before_a_video_is_hashed(settings, world, monkeypatch, changes, message, dry_run):
    monkeypatch.setattr(renders, "sha256_file", lambda path: pytest.fail(f"{path} was hashed"))
    given = {key: world / value if key == "joints_dir" else value for key, value in changes.items()}
    with pytest.raises(ConfigError, match=message):
        evaluate(settings("ours", **given, dry_run=dry_run))


@pytest.mark.fault("L7")
def test_an_output_among_the_references_is_refused(settings, world):
    """The next evaluation would take it for a person without photos."""
    inside = world / "references" / "out"
    with pytest.raises(DataError, match=r"output_dir=.*out: lies in references_dir, among the photos"):
        evaluate(settings("ours", ours="ours", references_dir=world / "references", output_dir=inside))
    assert not inside.exists()


def test_a_table_of_drivers_that_cannot_be_read_is_refused_before_any_work(settings, tmp_path):
    with pytest.raises(DataError, match=r"drivers_csv=.*absent.csv: cannot be read"):
        evaluate(settings("ours", ours="ours", drivers_csv=tmp_path / "absent.csv", recognisers=ABSENT))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"driver_videos_dir": "real/d01"}, "driver_videos_dir: has no effect without --pose_reader"),
        ({"joints_dir": "controls"}, "joints_dir: has no effect on the scores without --pose_reader"),
        (
            {"detector": "none", "face_margin": 0.1, "heads_dir": None},
            "face_margin: has no effect with --detector none",
        ),
        ({"real_vae": "toy", "real": None}, "real_vae: has no effect without --real"),
        ({"ours": None}, "base: has no effect without --ours or --heldout_people"),
        ({"ours": None}, "naive: has no effect without --ours or --heldout_people"),
        ({"ours": None, "start": "naive"}, "start: has no effect without --ours or --heldout_people"),
        ({"base": None, "unadapted_base": "plain"}, "unadapted_base: has no effect without --base"),
        ({"ours": None, "target": "bob"}, "target: has no effect but its place in the report without --ours"),
        ({"recognisers": ["toy_readout"], "onnx_mean": 1.0}, "onnx_mean: has no effect without an onnx: recogniser"),
        ({"recognisers": ["toy_readout"], "onnx_std": 1.0}, "onnx_std: has no effect without an onnx: recogniser"),
        ({"recognisers": ["clip:x"], "onnx_colour": "bgr"}, "onnx_colour: has no effect without an onnx: recogniser"),
        ({"pose_mean": (1, 1, 1)}, "pose_mean: has no effect without an .onnx --pose_reader"),
        ({"pose_std": (1, 1, 1)}, "pose_std: has no effect without an .onnx --pose_reader"),
        ({"detector_path": "x.onnx"}, "detector_path: has no effect without --detector yunet"),
        ({"drivers_csv": "who.csv", "ours": None}, "drivers_csv: has no effect without --ours"),
        ({"drivers_csv": "who.csv"}, "drivers_csv: has no effect here: of no rendered clip it says more than its name"),
        ({"recognisers": ["toy_readout"], "device": "cuda"}, "device: has no effect here: the toy's own readers"),
    ],
)
def test_an_option_without_effect_is_said(settings, world, tmp_path, caplog, changes, message):
    (tmp_path / "who.csv").write_text("clip,dancer\nholiday,ann\n")
    folders = {"driver_videos_dir": world, "joints_dir": world, "drivers_csv": tmp_path}
    given = {"base": "base", "ours": "ours", "naive": "naive", **changes}
    given |= {key: folder / given[key] for key, folder in folders.items() if key in given}
    assert message in "\n".join(said(settings("base ours naive plain", **given), caplog))


def test_options_with_an_effect_are_not_warned_about(settings, world, tmp_path, caplog):
    (tmp_path / "who.csv").write_text("clip,dancer\ngPO_sBM_c01_d01_mPO1_ch02,eve\n")
    (tmp_path / "pose.onnx").write_bytes(b"never loaded here")
    made = settings(
        "base half ours naive plain real",
        base="base",
        ours="ours",
        naive="naive",
        real="real",
        start="half",
        unadapted_base="plain",
        target="bob",
        face_margin=0.1,
        detector="none",
        onnx_mean=1.0,
        onnx_colour="bgr",
        device="cuda",
        pose_reader=str(tmp_path / "pose.onnx"),
        pose_mean=(1, 1, 1),
        joints_dir=world / "controls",
        drivers_csv=tmp_path / "who.csv",
        num_shown=2,
        seed=1,
    )
    assert said(made, caplog) == []


def test_renders_of_one_noise_are_said_to_be_one_sample_of_it(settings, caplog):
    said(settings("base ours real", base="base", ours="ours", real="real"), caplog)
    shared = [line.partition(":")[0] for line in caplog.messages if SHARED_NOISE in line]
    assert shared == ["base", "ours"]


def test_a_dry_run_says_it_too(settings, caplog):
    with caplog.at_level("WARNING", "faceid"):
        assert evaluate(settings("ours", dry_run=True, pose_std=(1, 1, 1))) == {}
    assert "pose_std: has no effect" in caplog.text
    assert "faceid.config" in {record.name for record in caplog.records}


def detector_rates(settings) -> dict[str, list[str]]:
    """By arm, the detector's rate and the rate of known heads of every video."""
    evaluate(settings)
    rows = csv.DictReader((settings.report.output_dir / "videos.csv").read_text().splitlines())
    return {row["video"]: [row["detector_rate"], row["detection_rate"]] for row in rows}


@pytest.mark.slow
def test_the_detector_is_a_second_opinion_on_known_heads(settings, world, tmp_path):
    controls = tmp_path / "controls"
    controls.mkdir()
    for path in (world / "controls").glob("*.heads.json"):
        boxes = json.loads(path.read_text())["boxes"]
        # The head is said to be at the feet in two of five frames, and outside the picture in one.
        content = {"boxes": [[24, 56, 40, 64], [24, 56, 40, 64], None, *boxes[3:]], "size_hw": [64, 64]}
        (controls / path.name).write_text(json.dumps(content))
    right = detector_rates(settings("real"))
    wrong = detector_rates(settings("real", heads_dir=controls, output_dir=tmp_path / "wrong"))
    assert set(map(tuple, right.values())) == {("1", "1")} and set(map(tuple, wrong.values())) == {("0.4", "0.8")}
    assert "second opinion" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("changes", [{"heads_dir": None}, {"detector": "none"}])
def test_there_is_no_second_opinion_where_the_detector_gave_the_first_or_takes_anything(settings, changes):
    assert {rate for rate, _ in detector_rates(settings("real", **changes)).values()} == {""}
