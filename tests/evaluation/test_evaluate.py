"""The whole evaluation on drawn people, by the function and by the command."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from drawn_renders import PEOPLE, settings_of, write_arm, write_grid_model, write_pose_model
from launching import run_command

from faceid.errors import ConfigError, DataError
from faceid.evaluation import evaluation_run
from faceid.evaluation.evaluation_run import check_inputs, evaluate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROLES = {
    "base": "base",
    "ours": "ours",
    "heldout_people": "ours",
    "naive": "naive",
    "wrong": "wrong",
    "wrong_start": "wrong",
    "real": "real",
    "unadapted_base": "plain",
    "target": "bob",
}


@pytest.fixture(scope="module")
def scored(world, tmp_path_factory):
    """All arms in their parts, evaluated once: the settings and the summary."""
    made = settings_of(world, tmp_path_factory.mktemp("scored") / "out", **ROLES)
    return made, evaluate(made)


def test_who_shows_everybody_is_told_from_who_shows_one_person(scored):
    _, summary = scored
    assert summary["identity_rank1_heldout_people"] == summary["target_rank1"] == 1.0
    assert summary["identity_auc_heldout_people"] > 0.9
    # One of four is right by always showing the same person.
    assert summary["base_rank1"] == summary["naive_recipe_rank1"] == summary["chance_rank1"] == 0.25
    assert summary["wrong_identity_follows_embedding"] == 1.0 and summary["wrong_identity_nearest_is_target"] == 0.0
    assert summary["wrong_identity_nearest_is_target_before"] == 0.0
    assert summary["face_scale_spearman"] == pytest.approx(1.0) and summary["face_scale_zero_equals_base"] is True
    assert summary["real_rank1"] == 1.0 and summary["num_identities"] == 4


@pytest.mark.slow
def test_who_always_shows_the_driver_leaks_more(settings, scored, tmp_path):
    leaky = evaluate(settings("base naive", base="base", ours="naive", output_dir=tmp_path / "leaky"))
    assert leaky["driver_leak"] > scored[1]["driver_leak"] + 0.3


@pytest.mark.slow
def test_the_same_pixels_have_the_base_pose_error(settings, world, tmp_path):
    made = settings("base", base="base")
    same = write_arm(tmp_path / "same", ["bob"])
    reader = write_pose_model(tmp_path / "pose.onnx", "heatmaps")
    made = settings(
        renders=[*made.arms.renders, f"same={same}"],
        base="base",
        ours="same",
        joints_dir=world / "controls",
        pose_reader=str(reader),
    )
    assert evaluate(made)["pose_error_ratio_to_base"] == pytest.approx(1)
    arms = json.loads((made.report.output_dir / "scores.json").read_text())["arms"]
    assert arms["same"]["by_recogniser"][made.recognisers.recognisers[0]]["pose_error"]["count"] == 2
    assert "scored with" in (made.report.output_dir / "report.html").read_text()


@pytest.mark.slow
def test_what_was_not_given_is_null(settings):
    summary = evaluate(settings("ours"))
    for key in (
        *("identity_rank1_heldout_poses", "identity_rank1_heldout_people", "identity_auc_heldout_people"),
        *("face_scale_spearman", "face_scale_zero_equals_base", "pose_error_ratio_to_base", "driver_leak"),
        *("wrong_identity_follows_embedding", "naive_recipe_rank1", "target_rank1", "base_rank1", "real_rank1"),
        *("pose_error_ratio_ours", "driver_leak_within_person", "start_rank1", "training_gain_similarity"),
        *("similarity_between_base_and_real",),
    ):
        assert summary[key] is None, key
    assert summary["intervals"] == {}


def test_the_files_say_the_same_as_the_function(scored):
    settings, summary = scored
    out = settings.report.output_dir
    assert json.loads((out / "summary.json").read_text()) == summary
    ours = json.loads((out / "scores.json").read_text())["arms"]["ours"]["by_recogniser"][
        settings.recognisers.recognisers[0]
    ]
    assert ours["rank1"]["value"] == 1.0 and ours["rank1"]["low"] <= 1.0 <= ours["rank1"]["high"]
    assert ours["pose_error"] == {"value": None, "low": None, "high": None, "count": 0}
    assert ours["equal_error_rate"]["low"] <= ours["equal_error_rate"]["value"] <= ours["equal_error_rate"]["high"]
    assert summary["intervals"]["identity_rank1_heldout_people"] == [ours["rank1"]["low"], ours["rank1"]["high"]]
    rows = list(csv.DictReader((out / "videos.csv").read_text().splitlines()))
    # Two clips of four people in base (as each), half, ours, naive and plain; of two in wrong, of one in real.
    assert len(rows) == 2 * (5 * 4 + 2 + 1)
    assert {row["scored_as"] for row in rows if row["arm"] == "base"} == set(PEOPLE)
    assert (out / "provenance.json").is_file()


@pytest.mark.slow
def test_a_face_that_is_hidden_costs(settings, world, tmp_path):
    heads = tmp_path / "hidden"
    shutil.copytree(world / "controls", heads)
    for path in heads.glob("*.heads.json"):
        boxes = json.loads(path.read_text())["boxes"]
        path.write_text(json.dumps({"boxes": [None, None, *boxes[2:]]}))
    similarity = []
    for folder in (world / "controls", heads):
        made = settings("ours", heads_dir=folder, output_dir=tmp_path / f"out_{folder.name}")
        evaluate(made)
        found = json.loads((made.report.output_dir / "scores.json").read_text())["arms"]["ours"]["by_recogniser"]
        similarity.append(found[made.recognisers.recognisers[0]])
    assert similarity[1]["detection_rate"]["value"] == pytest.approx(0.6)
    ratio = similarity[1]["similarity_times_rate"]["value"] / similarity[1]["similarity"]["value"]
    assert ratio == pytest.approx(0.6)
    assert similarity[1]["similarity_times_rate"]["value"] < 0.75 * similarity[0]["similarity_times_rate"]["value"]


@pytest.mark.slow
def test_a_strength_of_zero_that_is_not_the_base_is_seen(settings, tmp_path):
    other = write_arm(tmp_path / "other", [""], lambda given: "eve", face_scale=0.0)
    made = settings("ours base", base="base", ours="ours")
    summary = evaluate(
        settings(renders=[*made.arms.renders, f"other={other}"], base="base", ours="ours", unadapted_base="other")
    )
    assert summary["face_scale_zero_equals_base"] is False


@pytest.mark.slow
def test_the_gain_of_training_is_shown_beside_the_other_differences(settings, tmp_path):
    start = write_arm(tmp_path / "start", list(PEOPLE), lambda given: "d01")
    made = settings("base half ours")
    made = settings("", renders=[*made.arms.renders, f"start={start}"], base="base", ours="ours", start="start")
    summary = evaluate(made)
    found = json.loads((made.report.output_dir / "scores.json").read_text())["comparisons"][
        made.recognisers.recognisers[0]
    ]
    gain = found["differences"]["ours - start"]["similarity_times_rate"]
    assert gain["count"] == 8 and gain["value"] == summary["training_gain_similarity"] > 0.1
    assert summary["intervals"]["training_gain_similarity"] == [gain["low"], gain["high"]]
    assert summary["start_rank1"] == 0.25 and [p["arm"] for p in found["curve"]] == ["base", "half", "ours"]
    assert "<th>ours - start<small>8 pairs" in (made.report.output_dir / "report.html").read_text()


@pytest.mark.slow
def test_the_control_recipe_is_not_a_point_of_the_curve(settings, tmp_path):
    naive = write_arm(tmp_path / "naive", list(PEOPLE), lambda given: "d01", face_scale=2.0)
    made = settings("base half ours")
    made = settings("", renders=[*made.arms.renders, f"naive={naive}"], base="base", ours="ours", naive="naive")
    evaluate(made)
    found = json.loads((made.report.output_dir / "scores.json").read_text())["comparisons"][
        made.recognisers.recognisers[0]
    ]
    assert [point["arm"] for point in found["curve"]] == ["base", "half", "ours"]


def test_one_person_alone_is_scored_without_intervals(settings, world, tmp_path):
    arm = write_arm(tmp_path / "one", ["bob"])
    made = settings(renders=[f"one={arm}"], ours="one", target="bob")
    assert evaluate(made)["target_rank1"] == 1.0
    numbers = json.loads((made.report.output_dir / "scores.json").read_text())["arms"]["one"]["by_recogniser"]
    assert numbers[made.recognisers.recognisers[0]]["rank1"] == {"value": 1.0, "low": None, "high": None, "count": 2}


class _Page(html.parser.HTMLParser):
    """Collects what a page loads and how its tags nest."""

    def __init__(self):
        super().__init__()
        self.loaded, self.open, self.images = [], [], 0

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loaded += [given[key] for key in ("src", "srcset", "href") if key in given]
        self.images += tag == "img"
        if tag not in ("meta", "img", "source", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_file_with_pictures_of_every_arm(scored):
    settings, _ = scored
    page = _Page()
    page.feed((settings.report.output_dir / "report.html").read_text())
    assert page.open == [] and all(loaded.startswith("data:image/") for loaded in page.loaded)
    # Four people with four references each; two frames and two heads in the arms that show them; two plots.
    cells = 5 * 4 + 2 + 1
    # Before them the target's references, and in both of his poses a frame and a head of base, naive and ours.
    leading = 4 + 2 * 3 * 2
    assert page.images == leading + 4 * 4 + 4 * cells + 2


def test_the_report_begins_with_the_target_in_the_leading_arms_and_a_sentence_for_each(scored):
    text = (scored[0].report.output_dir / "report.html").read_text()
    first = text[text.index("What came out: bob") : text.index("About these figures")]
    assert text.index("<h2>") == text.index("<h2>What came out") and "<table" not in first
    assert re.findall(r"<figcaption>(.*?)</figcaption>", first) == ["base", "naive", "ours"] * 2
    sentences = re.findall(r'<p class="verdict-line">(.*?)</p>', first)
    assert sentences[-1] == "The trained adapter: recognised as bob by onnx in 2 of 2 videos."
    assert [sentence.split(":")[0] for sentence in sentences[:-1]] == ["The base alone", "The naive recipe"]
    # Two poses, each with the same clip, noise and frame in every arm; those that fail say for whom they are taken.
    assert first.count("recognised</small>") >= 2 and first.count("taken for ") + first.count("recognised</small>") == 6


@pytest.mark.starts_process
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_no_table_is_cut_on_a_usual_screen(scored, tmp_path):
    """Identity lost its last column at 1300 px."""
    text = (scored[0].report.output_dir / "report.html").read_text()
    look = """<script>
      const tables = [...document.querySelectorAll("body > .scroll")];
      document.title = JSON.stringify(tables.map(t => t.scrollWidth - t.clientWidth));
    </script></body>"""
    page = tmp_path / "looked_at.html"
    # As long as names of arms and intervals get.
    filled = re.sub(r"</b>(<small>.*?</small>)?</td>", "</b><small>-0.123 … -0.456</small></td>", text)
    page.write_text(filled.replace("</body>", look))
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--window-size=1300,900", "--dump-dom", page.as_uri()]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout
    cut = json.loads(re.search(r"<title>(.*?)</title>", shown)[1])
    assert len(cut) >= 3 and not any(cut)


def in_short(settings):
    """The report's first table: what stands above each column, and the cells of each row."""
    text = (settings.report.output_dir / "report.html").read_text()
    head, body = text.split('<table class="verdict">')[1].split("</table>")[0].split("</thead>")
    rows = {row.split("</th>")[0]: re.findall(r"<td.*?>(.*?)</td>", row) for row in body.split("<tr><th>")[1:]}
    return re.findall(r"<th>(.*?)</th>", head)[1:], rows


@pytest.mark.slow
def test_in_short_shows_each_recogniser_with_its_ceiling_and_intervals(settings, world, tmp_path):
    coarse = write_grid_model(tmp_path / "coarse.onnx", cell_px=32)
    made = settings(
        "base ours real", recognisers=[f"onnx:{world / 'grid.onnx'}", f"onnx:{coarse}"], num_shown=0,
        heldout_people="ours", base="base", real="real", target="bob",
    )  # fmt: skip
    summary = evaluate(made)
    columns, rows = in_short(made)
    ceilings = [f"<small>ceiling {found['real_rank1']:.3f}</small>" for found in summary["by_recogniser"].values()]
    assert columns == ["onnx grid.onnx (primary)" + ceilings[0], "onnx coarse.onnx" + ceilings[1]]
    assert "by onnx grid.onnx, the primary recogniser" in (made.report.output_dir / "report.html").read_text()
    expected = []
    for found in summary["by_recogniser"].values():
        low, high = found["intervals"]["identity_auc_heldout_people"]
        expected.append(f"{found['identity_auc_heldout_people']:.3f}<small>{low:.3f} … {high:.3f}</small>")
    assert rows["ROC-AUC, people not trained on"] == expected and expected[0] != expected[1]
    # One person has no interval, and chance is no recogniser's.
    assert rows["Rank-1 of the target, judged arm"] == [
        "1.000",
        f"{list(summary['by_recogniser'].values())[1]['target_rank1']:.3f}",
    ]
    assert rows["Rank-1 by chance"] == ["0.250"]
    assert 'colspan="2">0.250<' in (made.report.output_dir / "report.html").read_text()


@pytest.mark.slow
def test_without_real_clips_the_ceiling_is_said_to_be_unknown(settings):
    made = settings("ours", ours="ours", target="bob")
    evaluate(made)
    assert in_short(made)[0] == ["onnx grid.onnx (primary)<small>ceiling not known: no real clips</small>"]


def test_the_target_comes_first_in_the_report(scored):
    text = (scored[0].report.output_dir / "report.html").read_text()
    assert text.index("bob (target)") < text.index("<h3>ann") < text.index("<h3>d01")


def test_the_best_of_a_column_is_marked_whichever_way_is_better(scored):
    settings, _ = scored
    text = (settings.report.output_dir / "report.html").read_text()
    arms = json.loads((settings.report.output_dir / "scores.json").read_text())["arms"]
    for title, key, best in (("Rank-1", "rank1", max), ("Similarity, spread", "similarity_std", min)):
        values = {
            name: arm["by_recogniser"][settings.recognisers.recognisers[0]][key]["value"]
            for name, arm in arms.items()
            if name != "real"
        }
        table = next(table for table in text.split('<table class="wide">')[1:] if f">{title}&nbsp;" in table)
        rows = table.split("<tr><th>")[2:]
        marked = {row.split("<")[0] for row in rows if re.search(r'<td class="number( best)?"', row)[1]}
        assert marked == {name for name, value in values.items() if value == best(values.values())}


@pytest.mark.slow
def test_texts_of_the_user_are_not_html(settings, tmp_path):
    (tmp_path / "notes.txt").write_text("shipped: <script>alert(1)</script>\n")
    made = settings("ours", title="<b>bold</b>", notes=tmp_path / "notes.txt")
    evaluate(made)
    text = (made.report.output_dir / "report.html").read_text()
    assert "<script>" not in text and "<b>bold</b>" not in text and "shipped: &lt;script&gt;" in text


@pytest.mark.slow
def test_an_older_evaluation_is_replaced_and_another_folder_refused(settings, tmp_path):
    made = settings("ours")
    evaluate(made)
    before = (made.report.output_dir / "summary.json").stat()
    evaluate(made)
    # Not by its bytes: two evaluations of one second say the same.
    assert (made.report.output_dir / "summary.json").stat().st_mtime_ns > before.st_mtime_ns
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    with pytest.raises(DataError, match="holds file, not as this command wrote it"):
        evaluate(settings("ours", output_dir=tmp_path / "precious"))


@pytest.mark.slow
def test_a_failing_evaluation_leaves_the_older_one(settings, monkeypatch):
    made = settings("ours")
    evaluate(made)
    before = (made.report.output_dir / "scores.json").read_bytes()
    monkeypatch.setattr("faceid.evaluation.report.publish.render_evaluation_report", lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(made)
    assert (made.report.output_dir / "scores.json").read_bytes() == before
    assert [path.name for path in made.report.output_dir.parent.iterdir()] == ["out"]


def test_conditioning_photos_among_the_references_are_refused_before_any_work(settings, world):
    with pytest.raises(DataError, match="is the conditioning photo"):
        evaluate(settings("ours", conditioning_dir=world / "references", recognisers=["onnx:absent.onnx"]))


@pytest.mark.parametrize("key", ["heads_dir", "joints_dir"])
def test_a_missing_file_of_a_clip_is_named_before_any_work(settings, tmp_path, key):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{key}=.*: no gBR_sBM_c01_d01_mBR0_ch01"):
        evaluate(settings("ours", **{key: tmp_path / "empty"}, recognisers=["onnx:absent.onnx"]))


def test_a_target_without_references_is_refused(settings):
    with pytest.raises(ConfigError, match="target=zoe: not in references_dir"):
        evaluate(settings("ours", target="zoe"))


def test_a_dry_run_writes_nothing(settings, caplog):
    made = settings("ours", dry_run=True, recognisers=["onnx:absent.onnx"])
    assert evaluate(made) == {} and not made.report.output_dir.exists()


def test_without_head_boxes_the_detector_looks(settings, world):
    summary = evaluate(settings("real", heads_dir=None, detector="none", real="real"))
    # Whole frames against whole photos: only that it runs through and ranks.
    assert summary["real_rank1"] in (0.0, 0.5, 1.0)


def command(world, output, *more):
    return [
        *(sys.executable, "tools/evaluate.py", "--renders", f"[ours={world / 'ours'}, base={world / 'base'}]"),
        *("--references_dir", str(world / "references"), "--recognisers", f"[onnx:{world / 'grid.onnx'}]"),
        *("--heads_dir", str(world / "controls"), "--face_margin", "0", "--output_dir", str(output), *more),
    ]


@pytest.mark.starts_process
def test_the_command_writes_an_evaluation(world, tmp_path):
    run_command(command(world, tmp_path / "out", "--ours", "ours", "--base", "base"))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["base_rank1"] == 0.25


@pytest.mark.starts_process
def test_a_users_error_is_one_line_and_exit_code_2(world, tmp_path):
    done = run_command(command(world, tmp_path / "out", "--naive", "absent"), expect=2)
    assert done.stderr.startswith("error: naive=absent: not an arm") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_real_clips_go_through_a_vae_and_nothing_else_does(settings, tmp_path, monkeypatch):
    """A VAE that leaves nothing: nobody is known in real clips, and every other arm scores as before."""
    seen = []

    def blank(vae, frames):
        seen.append(frames.shape)
        return np.full_like(frames, 128)

    monkeypatch.setattr(evaluation_run, "through_vae", blank)
    plain, made = (
        settings("ours real", real="real", ours="ours", real_vae=vae, output_dir=tmp_path / str(vae))
        for vae in (None, "toy")
    )
    before, after = evaluate(plain), evaluate(made)
    assert before["real_rank1"] == 1 and after["real_rank1"] < 1 and seen
    assert before["by_recogniser"].keys() == after["by_recogniser"].keys()
    ours = [json.loads((of.report.output_dir / "scores.json").read_text())["arms"]["ours"] for of in (plain, made)]
    assert ours[0] == ours[1]


def test_a_real_clip_that_is_in_another_arm_too_is_refused(settings):
    made = settings("real", real="real", real_vae="toy")
    folder = made.arms.arm_folders()["real"][0]
    with pytest.raises(ConfigError, match=r"real_vae: .* is in real and in also"):
        check_inputs(replace(made, arms=replace(made.arms, renders=[*made.arms.renders, f"also={folder}"])))
