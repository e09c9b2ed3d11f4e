"""Does an encoder tell people apart: every figure by hand, and the tool on drawn people, whose answer is known."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from calling import command_module
from drawn_renders import PEOPLE, write_grid_model
from launching import run_command
from PIL import Image, ImageOps

from faceid.errors import ConfigError, DataError, ModelError
from faceid.evaluation.figures import similarity
from faceid.evaluation.verification import verification_figures as figures_of
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo

pytestmark = pytest.mark.promise(
    ("the encoders: pixels and embeddings beside transformers' own; the report on whether they tell people apart"),
    bar="pixels within 1e-4; all checks pass",
    proof="model",
)

TOOL = Path(__file__).resolve().parents[3] / "tools" / "verify_encoder.py"
OUTPUTS = ["provenance.json", "report.html", "verification.json", "verification.png"]


def unit(*degrees):
    """Unit vectors in the plane, [N, 2]: their cosines are those of the angles between them."""
    return np.stack([(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in degrees])


@pytest.fixture(scope="module")
def people_dir(tmp_path_factory):
    """Four drawn people whom colours tell apart, of five photos each, and one of a single photo."""
    folder = tmp_path_factory.mktemp("verified") / "people"
    for name, person in PEOPLE.items():
        (folder / name).mkdir(parents=True)
        for index in range(5):
            Image.fromarray(render_photo(person, 700 + index, 128)).save(folder / name / f"{index}.png")
    (folder / "zoe").mkdir()
    Image.fromarray(render_photo(draw_person(77), 3, 128)).save(folder / "zoe" / "only.png")
    return folder


@pytest.fixture
def tool():
    return command_module("tools/verify_encoder.py")


@pytest.fixture
def verify(tool, tmp_path, people_dir):
    """Runs the tool with the toy encoder on whole photos; returns what verification.json holds."""

    def run(faces_dir=people_dir, *more, output="out", encoder="toy"):
        flags = ["--encoder_path", encoder, "--detector", "none", "--bootstrap_samples", "100", *map(str, more)]
        assert tool.main(["--faces_dir", str(faces_dir), "--output_dir", str(tmp_path / output), *flags]) == 0
        return json.loads((tmp_path / output / "verification.json").read_text())

    return run


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render_photo(draw_person(5), seed, 96)).save(path)
    return path


# -- figures by hand --


def test_every_two_photos_are_one_pair():
    pairs = figures_of.make_pairs(unit(0, 60, 90, 180), ["b", "b", "a", "b"])
    assert pairs.people == ["a", "b"]
    assert sorted(pairs.genuine.tolist()) == pytest.approx([-1, -0.5, 0.5])
    assert pairs.genuine_person.tolist() == [1, 1, 1]
    assert sorted(pairs.impostor.tolist()) == pytest.approx([0, 0, math.sqrt(0.75)])
    assert {tuple(sorted(pair)) for pair in pairs.impostor_people.T.tolist()} == {(0, 1)}


def test_each_person_has_their_mean_and_their_nearest():
    names = ["a", "a", "b", "b", "c"]
    pairs = figures_of.make_pairs(unit(0, 60, 90, 90, 180), names)
    found = figures_of.measure(pairs, {"a": 2, "b": 2, "c": 1}, 100, 0)
    anna, bob, carl = found.people
    # a to b: cosines of 90, 90, 30, 30 degrees; c to b twice 90.
    assert (anna.name, anna.num_photos, anna.nearest) == ("a", 2, "b")
    assert (anna.genuine_cosine, anna.nearest_cosine) == pytest.approx((0.5, math.sqrt(0.75) / 2))
    assert (bob.genuine_cosine, bob.nearest, bob.nearest_cosine) == (pytest.approx(1), "a", anna.nearest_cosine)
    assert math.isnan(carl.genuine_cosine) and (carl.nearest, carl.nearest_cosine) == ("b", pytest.approx(0, abs=1e-9))
    assert (found.num_people, found.num_photos, found.num_genuine, found.num_impostor) == (3, 5, 2, 8)


def test_the_roc_begins_with_everybody_accepted_and_ends_with_nobody():
    thresholds, accepts, rejects = figures_of.roc_points(np.array([1.0, 3.0]), np.array([0.0, 1.0]))
    assert thresholds.tolist() == [0, 1, 3, math.inf]
    assert accepts.tolist() == [1, 0.5, 0, 0] and rejects.tolist() == [0, 0, 0.5, 1]


def test_the_equal_error_threshold_lies_between_the_scores_where_the_rates_meet():
    assert figures_of.equal_error_threshold(np.array([3.0, 4]), np.array([1.0, 2])) == 2.5
    # At 2.5 one of two is rejected and one of two accepted.
    assert figures_of.equal_error_threshold(np.array([2.0, 4]), np.array([1.0, 3])) == 2.5
    assert figures_of.equal_error_threshold(np.array([1.0]), np.array([1.0])) == 1


def test_the_threshold_of_one_per_cent_is_the_one_its_rate_is_of():
    impostor = np.arange(200.0)
    assert figures_of.false_accept_threshold(impostor) == 197
    genuine = np.array([196.0, 197, 198, 250])
    rate = similarity.true_accept_rate(genuine, impostor)
    assert rate == (genuine > figures_of.false_accept_threshold(impostor)).mean() == 0.5
    assert math.isnan(figures_of.false_accept_threshold(impostor[:99]))


def scores_of_people(spread, seed=0):
    """Twelve people of four photos; the larger the spread, the less they stand apart."""
    generator = np.random.default_rng(seed)
    centres, names = generator.normal(size=(12, 8)), np.repeat([f"p{n:02d}" for n in range(12)], 4)
    vectors = np.repeat(centres, 4, axis=0) + spread * generator.normal(size=(48, 8))
    return figures_of.make_pairs(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), names.tolist())


def measured(pairs, samples=300):
    return figures_of.measure(pairs, dict.fromkeys(pairs.people, 4), samples, 0)


@pytest.mark.parametrize("seed", range(4))
def test_with_everybody_drawn_once_a_resampling_gives_the_plain_figures(seed, monkeypatch):
    pairs = scores_of_people(1.0, seed)
    # Ties, too.
    pairs = figures_of.Pairs(
        pairs.people, pairs.genuine.round(1), pairs.genuine_person, pairs.impostor.round(1), pairs.impostor_people
    )
    once = type("Once", (), {"__init__": lambda self, people, *_: setattr(self, "weights", np.ones((1, len(people))))})
    monkeypatch.setattr(figures_of, "PeopleBootstrap", once)
    found = measured(pairs)
    assert found.auc.low == pytest.approx(found.auc.value) and found.auc.value < 1
    assert found.equal_error_rate.low == pytest.approx(found.equal_error_rate.value)


def test_a_person_drawn_twice_weighs_twice_and_one_drawn_never_not_at_all(monkeypatch):
    pairs = figures_of.make_pairs(unit(0, 30, 10, 90, 80), ["a", "a", "b", "b", "c"])
    twice = type("Twice", (), {"__init__": lambda self, *_: setattr(self, "weights", np.array([[2.0, 1.0, 0.0]]))})
    monkeypatch.setattr(figures_of, "PeopleBootstrap", twice)
    found = figures_of.measure(pairs, {"a": 2, "b": 2, "c": 1}, 100, 0)
    # Genuine: cos 30 (a) twice, cos 80 (b) once. Impostors of a and b, all alike: 10, 90, 20, 60 degrees.
    # cos 30 is above 90 and 60 (half of them), cos 80 above 90 only.
    assert found.auc.low == pytest.approx((2 * 2 + 1 * 1) / (3 * 4))


def test_intervals_hold_the_value_and_are_the_same_for_the_same_seed():
    found = measured(scores_of_people(1.0))
    for estimate in (found.auc, found.equal_error_rate):
        assert estimate.low < estimate.value < estimate.high
    assert measured(scores_of_people(1.0)) == found


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (0.1, "x tells these people apart: equal error rate 0.0 %, where"),
        (0.7, "x tells these people apart in most pairs: equal"),
        (1.7, "x hardly tells these people apart: equal"),
        (20.0, "x does not tell these people apart: equal"),
    ],
)
def test_the_conclusion_says_how_well(spread, words):
    found = measured(scores_of_people(spread))
    sentence = figures_of.conclusion("x", found, 50)
    assert sentence.startswith(words) and "(12 people; 48 of 50 photos)" in sentence
    share = re.search(r"; (\d+) % of the pairs of one person score above all but 1 %", sentence)
    assert int(share[1]) == round(100 * found.true_accept_rate_at_1_percent)


def test_few_pairs_give_no_rate_at_one_per_cent():
    pairs = figures_of.make_pairs(unit(0, 10, 90), ["a", "a", "b"])
    found = figures_of.measure(pairs, {"a": 2, "b": 1}, 100, 0)
    assert math.isnan(found.true_accept_rate_at_1_percent)
    assert "2 pairs of two people are too few for a rate at 1 %" in figures_of.conclusion("x", found, 3)


# -- the tool --


def test_the_strong_toy_encoder_tells_drawn_people_apart(verify, capsys):
    found = verify(encoder="toy_strong")
    assert (found["num_people"], found["num_photos"], found["num_genuine"], found["num_impostor"]) == (5, 21, 40, 170)
    assert found["equal_error_rate"]["value"] < 0.2 and found["auc"]["value"] > 0.9
    assert found["equal_error_rate"]["low"] <= found["equal_error_rate"]["value"] <= found["equal_error_rate"]["high"]
    assert {person["name"]: person["num_photos"] for person in found["people"]} == {
        **dict.fromkeys(PEOPLE, 5),
        "zoe": 1,
    }
    assert found["people"][-1]["genuine_cosine"] is None
    assert "clip toy_strong tells these people apart" in found["conclusion"]
    # What is read last is what matters.
    assert capsys.readouterr().err.rstrip().endswith(found["conclusion"])


@pytest.mark.slow
def test_an_encoder_that_knows_nobody_is_seen_through(verify, tmp_path):
    """Labels that follow nothing in the photos: by any encoder, chance."""
    shuffled = tmp_path / "shuffled"
    for index in range(24):
        draw(shuffled / f"p{index % 4}" / f"{index}.png", 300 + index)
    found = verify(shuffled)
    assert 0.3 < found["equal_error_rate"]["value"] < 0.7
    assert "does not tell" in found["conclusion"] or "hardly tells" in found["conclusion"]


@pytest.mark.slow
def test_another_kind_of_encoder_is_verified_with_the_same_flags(verify, tmp_path, people_dir):
    flags = ("--encoder", "onnx", "--encoder_path", write_grid_model(tmp_path / "grid.onnx"))
    whole, cut = verify(people_dir, *flags), verify(people_dir, *flags, "--detector", "haar")
    assert (cut["encoder"], cut["dim"]) == ("onnx", 48) and cut["conclusion"].startswith("onnx grid.onnx ")
    # A recogniser of colours sees backdrops in whole photos, and people in their faces.
    assert whole["auc"]["value"] < 0.65 and cut["auc"]["value"] > 0.75


def test_the_folder_holds_scores_and_no_face_and_no_embedding(verify, tmp_path):
    found = verify()
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [".faceid", *OUTPUTS]
    page = (out / "report.html").read_text()
    assert found["conclusion"] in page and page.index(found["conclusion"]) < page.index("<h2>")
    # The only pictures are the plot, light and dark.
    pictures = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([\w+/=]+)", page)]
    plot = Image.open(out / "verification.png")
    assert sorted(Image.open(io.BytesIO(png)).size for png in pictures) == [plot.size] * 2
    assert (out / "verification.png").read_bytes() in pictures
    assert page.count("<img") == 1 and "http" not in page and "<script" not in page

    def longest(value):
        if isinstance(value, dict):
            return max([longest(item) for item in value.values()], default=0)
        if isinstance(value, list):
            return max([len([v for v in value if isinstance(v, float)]), *(longest(item) for item in value)])
        return 0

    assert longest(found) == 0
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["inputs"]["encoder_fingerprint"] == found["encoder_fingerprint"]
    assert len(provenance["inputs"]["photos_sha256"]) == 64


@pytest.mark.slow
def test_a_second_verification_replaces_the_first_whole(verify, tmp_path, people_dir):
    verify()
    before = (tmp_path / "out" / "provenance.json").read_bytes()
    # What differs in it is the second in which it was made.
    time.sleep(1.1)
    verify(people_dir, "--seed", 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".faceid", *OUTPUTS]
    assert (tmp_path / "out" / "provenance.json").read_bytes() != before


@pytest.mark.fault("M9")
@pytest.mark.slow
def test_photos_that_do_not_count_are_named_with_the_reason(verify, tmp_path, people_dir):
    faces = tmp_path / "faces"
    shutil.copytree(people_dir, faces)
    (faces / "ann" / "damaged.png").write_bytes(b"no picture")
    shutil.copy(faces / "ann" / "0.png", faces / "ann" / "again.png")
    shutil.copy(faces / "ann" / "1.png", faces / "eve" / "mislabelled.png")
    Image.open(faces / "bob" / "2.png").resize((90, 90)).save(faces / "bob" / "small.jpg", quality=70)
    ImageOps.mirror(Image.open(faces / "ann" / "3.png")).save(faces / "ann" / "turned.png")
    (faces / "nobody").mkdir()
    found = verify(faces)
    reasons = {name: reason.split(" (")[0] for name, reason in found["left_out"].items()}
    assert reasons == {
        "ann/again.png": "the same file as ann/0.png",
        "ann/damaged.png": "cannot be decoded",
        "bob/small.jpg": "nearly the same picture as 2.png",
        "ann/turned.png": "nearly the same picture as 3.png",
        "eve/mislabelled.png": "the same file as ann/1.png, so one of the two names is wrong",
    }
    assert (found["num_photos"], found["num_given"], found["num_people"]) == (21, 26, 5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in reasons) and "21 of 26 photos" in page


@pytest.mark.slow
def test_a_photo_of_two_faces_counts_with_the_largest_and_is_named(verify, tmp_path, people_dir):
    faces = tmp_path / "faces"
    shutil.copytree(people_dir, faces)
    # Not a photo of the folder again: that is a copy, and left out.
    large, small = (Image.fromarray(render_photo(PEOPLE[name], 900, 128)) for name in ("bob", "d01"))
    both = Image.new("RGB", (360, 260), (90, 120, 90))
    both.paste(large.resize((230, 230)), (5, 15))
    both.paste(small.resize((110, 110)), (245, 140))
    both.save(faces / "bob" / "both.png")
    found = verify(faces, "--detector", "haar")
    assert found["several_faces"] == ["bob/both.png"]


def test_names_are_text_on_the_page(verify, tmp_path, people_dir):
    faces = tmp_path / "faces"
    shutil.copytree(people_dir, faces)
    (faces / "ann").rename(faces / "<b>ann&co")
    verify(faces)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;ann&amp;co" in page and "<b>ann" not in page


def test_flags_that_make_identities_are_said_to_have_no_effect(verify, people_dir, capsys):
    verify(people_dir, "--aggregation", "median")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1 and "aggregation: has no effect here, where no identity is made" in warnings[0]


# -- what cannot be --


def refuse_absent(tmp_path):
    return tmp_path / "absent", tmp_path / "out"


def refuse_file(tmp_path):
    return draw(tmp_path / "photo.png", 1), tmp_path / "out"


def refuse_one_person(tmp_path):
    draw(tmp_path / "faces" / "ann" / "0.png", 1)
    (tmp_path / "faces" / "empty").mkdir()
    return tmp_path / "faces", tmp_path / "out"


def refuse_one_photo_each(tmp_path):
    for seed, name in enumerate("abc"):
        draw(tmp_path / "faces" / name / "0.png", seed)
    return tmp_path / "faces", tmp_path / "out"


def two_people(tmp_path):
    for seed in range(4):
        draw(tmp_path / "faces" / "ab"[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "faces"


def refuse_damaged_person(tmp_path):
    faces = two_people(tmp_path)
    for photo in (faces / "b").iterdir():
        photo.write_bytes(b"damaged")
    return faces, tmp_path / "out"


def refuse_single_usable(tmp_path):
    faces = two_people(tmp_path)
    for name in ("a/2.png", "b/3.png"):
        (faces / name).write_bytes(b"damaged")
    return faces, tmp_path / "out"


def refuse_output_file(tmp_path):
    (tmp_path / "out").write_text("a letter")
    return two_people(tmp_path), tmp_path / "out"


def refuse_foreign_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    return two_people(tmp_path), tmp_path / "out"


def refuse_output_among_photos(tmp_path):
    faces = two_people(tmp_path)
    return faces, faces / "report"


def refuse_output_over_photos(tmp_path):
    (tmp_path / "verification.json").write_text("{}")
    return two_people(tmp_path), tmp_path


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (refuse_absent, r"faces_dir=\S+absent: no such folder; name a folder with one folder of photos"),
        (refuse_file, r"faces_dir=\S+photo\.png: is no folder but a file; name a folder"),
        (refuse_one_person, r"faces_dir=\S+: 1 folders with photos, at least 2 people are needed"),
        (refuse_one_photo_each, r"faces_dir=\S+: one photo of each of 3 people, so no two show the same person"),
        (refuse_damaged_person, r"faces_dir=\S+: 1 people with a usable photo, .* \(b/1\.png: cannot be decoded"),
        (refuse_single_usable, r"faces_dir=\S+: nobody has 2 usable photos, .* \(a/2\.png: cannot be decoded"),
        (refuse_output_file, r"output_dir=\S+out: is a file; name a folder"),
        (refuse_foreign_output, r"output_dir=\S+out: holds thesis.txt, not as this command wrote it"),
        (refuse_output_among_photos, r"output_dir=\S+report: lies in faces_dir, among the photos"),
        (refuse_output_over_photos, r"output_dir=\S+: holds faces_dir and would be replaced"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(prepare, words, tmp_path, tool):
    faces, output = prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=words):
        tool.main(
            ["--faces_dir", str(faces), "--output_dir", str(output), "--encoder_path", "toy", "--detector", "none"]
        )
    assert sorted(tmp_path.rglob("*")) == before


def test_more_photos_than_can_be_compared_are_refused(tool, tmp_path, monkeypatch):
    monkeypatch.setattr("faceid.evaluation.verification.verify_encoder.MOST_PHOTOS", 3)
    with pytest.raises(DataError, match="4 photos, at most 3, as every two of them are compared"):
        tool.main(["--faces_dir", str(two_people(tmp_path)), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        (("--encoder", "arcface"), ConfigError, "encoder=arcface: .*dinov2"),
        (("--encodr", "clip"), ConfigError, "did you mean --encoder"),
        (("--encoder_path", "/absent"), ModelError, "/absent: no config.json"),
        (("--detector", "yunet"), ConfigError, "needs --detector_path"),
        (("--bootstrap_samples", "1"), ConfigError, "bootstrap_samples=1"),
    ],
)
def test_a_wrong_flag_is_refused_by_name(tool, tmp_path, flags, error, words):
    with pytest.raises(error, match=words):
        tool.main(["--faces_dir", str(two_people(tmp_path)), "--output_dir", str(tmp_path / "out"), *flags])


@pytest.mark.starts_process
def test_a_users_error_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, str(TOOL), "--faces_dir", str(tmp_path / "absent"), "--output_dir", str(tmp_path / "o")]
    run = run_command(command, expect=2)
    assert run.stderr.startswith("error: faces_dir=") and run.stderr.count("\n") == 1


@pytest.mark.starts_process
def test_the_command_line_is_read_before_anything_heavy(tmp_path):
    code = (
        f"import runpy, sys\nsys.argv = [{str(TOOL)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    sys.exit(' '.join({'torch', 'transformers', 'cv2', 'scipy'} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--faces_dir" in run.stdout and (run.returncode, run.stderr) == (0, "")


# -- real photos --


@pytest.mark.real_data
@pytest.mark.slow
def test_real_people_are_verified_and_the_toy_encoder_does_not_know_them(verify, real_data, tmp_path):
    """The toy's encoder has only ever seen drawings: the report must say that it is of no use here."""
    found = verify(real_data / "faces" / "lfw", "--detector", "haar")
    assert (found["num_people"], found["num_given"]) == (5, 50)
    assert found["num_photos"] + len(found["left_out"]) == 50 and found["num_photos"] >= 45
    assert found["equal_error_rate"]["value"] > 0.3 and "does not tell" in found["conclusion"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2
