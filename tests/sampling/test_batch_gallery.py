"""The gallery of a rendered folder: what it shows, that it needs nothing else, and how it behaves in a browser."""

import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from render_flags import changed
from two_poses import run

from faceid.media.video import read_video, write_video
from faceid.sampling.jobs import gallery as module
from faceid.sampling.jobs.gallery import write_gallery

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def rendered(folder, *names, error=""):
    rows = []
    for number, (identity, pose) in enumerate(names):
        output = f"{identity}/{pose}.mp4"
        frames = np.full((9, 32, 48, 3), 40 * number + 30, np.uint8)
        write_video(folder / output, frames, fps=16)
        row = {
            "id": f"{number:016x}",
            "pose": f"{pose}.mp4",
            "identity": identity,
            "output": output,
            "seed": number % 2,
        }
        rows.append({**row, "face_scale": 1.0, "prompt": "a dance", "adapter": "a.safetensors", "error": error})
    return rows


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    rows = rendered(folder, ("anna", "x pose"), ("anna", "y"), ("bob <b>", "x pose"))
    failed = {**rows[0], "id": "f" * 16, "pose": "bad.mp4", "error": "not a readable video"}
    for name in ("anna", "bob <b>"):
        path = tmp_path / "people" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(path)
    write_gallery(folder, [*rows, failed], tmp_path / "people")
    return folder


def links(html):
    return [unquote(link) for link in re.findall(r'(?:src|poster)="([^"]+)"', html)]


def test_every_video_has_a_card_and_all_it_needs_lies_in_the_folder(out, tmp_path):
    html = (out / "gallery.html").read_text()
    assert html.count("<article") == 3 and "not a readable video" in html and "personal data" in html
    moved = shutil.copytree(out, tmp_path / "moved")
    found = links(html)
    assert len(found) == 3 * 2 + 2 and all((moved / link).is_file() for link in found)
    assert not re.search(r"(https?:)?//", html.replace("<!doctype", ""))
    # A name is text.
    assert "bob &lt;b&gt;" in html and "bob <b>" not in html


def test_posters_are_made_once(out, tmp_path):
    poster = next((out / "gallery" / "posters").iterdir())
    before = poster.stat().st_mtime_ns
    write_gallery(out, rendered(out, ("anna", "x pose")), None)
    assert poster.stat().st_mtime_ns == before


@pytest.mark.fault("C6")
@pytest.mark.slow
def test_posters_are_kept_as_videos_are_rendered_and_no_video_is_decoded_again(settings, tmp_path, monkeypatch):
    asked = changed(settings, num_inference_steps=1, cfg_scale=1.0)
    monkeypatch.setattr(module, "read_video", lambda path: pytest.fail(f"{path} is decoded again"))
    assert run(asked) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "jobs.jsonl").read_text().splitlines()]
    posters = {path.stem: path for path in (tmp_path / "out" / "gallery" / "posters").glob("*.jpg")}
    assert sorted(posters) == sorted(row["id"] for row in rows) and len(rows) == 4
    monkeypatch.undo()
    for row in rows:
        frames = read_video(tmp_path / "out" / row["output"]).frames
        shown = np.asarray(Image.open(posters[row["id"]])).astype(int)
        assert np.abs(shown - frames[len(frames) // 2]).mean() < 12
    # Folders of before have none: they are made of the videos.
    shutil.rmtree(tmp_path / "out" / "gallery")
    write_gallery(tmp_path / "out", rows)
    assert len(list((tmp_path / "out" / "gallery" / "posters").glob("*.jpg"))) == 4


@pytest.mark.fault("S1")
def test_a_name_from_a_file_is_never_a_path(tmp_path):
    """An identity's name is what its file says, and may be anybody's."""
    out, people = tmp_path / "out", tmp_path / "people"
    for folder in (people / "anna", tmp_path / "escaped" / "pwn"):
        folder.mkdir(parents=True)
        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / "1.png")
    rows = rendered(out, ("anna", "x"), ("bob", "y"), ("carl", "z"))
    for row, name in zip(rows[1:], ("../escaped/pwn", str(tmp_path / "escaped" / "pwn")), strict=True):
        row["identity"] = name
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    html = write_gallery(out, rows, people).read_text()
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} == before
    assert [path.suffix for path in (out / "gallery" / "references").glob("*.*") if path.is_file()] == [".jpg"]
    assert html.count("gallery/references/") == 1 and "escaped/pwn" in html


def test_what_failed_is_a_table_that_says_no_more_than_is_known(tmp_path):
    """A row of a list that cannot be read has no pose, and so no seed: it was shown as seed 0."""
    (row,) = rendered(tmp_path, ("anna", "x"))
    unread = {**row, "id": "e" * 16, "pose": "", "identity": "", "seed": 0, "error": "jobs=l.jsonl, line 3: no key"}
    failed = {**row, "id": "f" * 16, "seed": 7, "error": "not a readable video"}
    html = write_gallery(tmp_path, [row, unread, failed]).read_text()
    cells = [re.findall(r"<td>(.*?)</td>", line) for line in html.splitlines() if "<td>" in line]
    assert cells == [["", "", "", "jobs=l.jsonl, line 3: no key"], ["x.mp4", "anna", "7", "not a readable video"]]


@pytest.mark.starts_process
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_the_table_of_what_failed_breaks_no_word(tmp_path):
    (row,) = rendered(tmp_path, ("target", "hostname"))
    html = write_gallery(tmp_path, [row, {**row, "id": "f" * 16, "error": "many words " * 60}]).read_text()
    look = """<script>
      const all = document.createRange();
      const lines = cell => { all.selectNodeContents(cell); return all.getClientRects().length; };
      document.title = JSON.stringify([...document.querySelectorAll("td")].slice(0, 3).map(lines));
    </script></body>"""
    (tmp_path / "looked_at.html").write_text(html.replace("</body>", look))
    dom = browse(tmp_path / "looked_at.html", tmp_path, "--dump-dom", "--window-size=800,700")
    assert json.loads(re.search(r"<title>(.*?)</title>", dom)[1]) == [1, 1, 1]


def scored(row, **values):
    return {**row, "similarity": 0.5, "margin": 0.2, "rank1": 1.0, "nearest": row["identity"], **values}


@pytest.mark.starts_process
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_scores_are_shown_and_order_the_cards(tmp_path):
    rows = rendered(tmp_path, ("anna", "x"), ("anna", "y"), ("bob", "z"), ("cleo", "w"))
    scores = [
        scored(rows[0]),
        scored(rows[1], similarity=0.1, margin=-0.31, rank1=0.0, nearest="bob"),
        scored(rows[2], similarity=None, margin=None),
    ]
    write_gallery(tmp_path, rows, None, {score["id"]: score for score in scores})
    html = (tmp_path / "gallery.html").read_text()
    for words in ("likeness 0.50 · margin +0.20", "likeness 0.10 · margin -0.31 · more like bob", "no face found"):
        assert html.count(words) == 1
    look = """<script>
      order.value = "1"; order.dispatchEvent(new Event("input"));
      document.title = [...document.querySelectorAll("article")].map(c => c.dataset.pose[0]).join("");
    </script></body>"""
    (tmp_path / "ordered.html").write_text(html.replace("</body>", look))
    # Without a face the least alike of all; not scored last.
    assert "<title>zyxw</title>" in browse(tmp_path / "ordered.html", tmp_path, "--dump-dom")


@pytest.mark.starts_process
@pytest.mark.promise(
    "the gallery in Chromium: filters hide and count, posters are on the page", bar="all checks pass", proof="sampling"
)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_in_a_browser_filters_hide_and_count(out, tmp_path):
    html = (out / "gallery.html").read_text()
    look = """<script>
      const choose = document.querySelector('select[data-key="identity"]'); choose.value = "anna";
      choose.dispatchEvent(new Event("input")); find.value = "Y"; find.dispatchEvent(new Event("input"));
      const shown = cards.filter(c => !c.hidden).map(c => c.dataset.pose);
      document.title = JSON.stringify([shown, count.textContent, selects.map(s => s.dataset.key)]);
    </script></body>"""
    (out / "looked_at.html").write_text(html.replace("</body>", look))
    dom = browse(out / "looked_at.html", tmp_path, "--dump-dom")
    shown, count, keys = json.loads(re.search(r"<title>(.*?)</title>", dom)[1])
    assert shown == ["y.mp4"] and count == "1 of 3" and keys == ["identity", "pose", "seed"]
    browse(out / "gallery.html", tmp_path, f"--screenshot={tmp_path / 'gallery.png'}", "--window-size=900,700")
    picture = np.asarray(Image.open(tmp_path / "gallery.png").convert("RGB"))
    # The posters' greys are on the page.
    for grey in (30, 70, 110):
        assert (np.abs(picture.astype(int) - grey).max(2) < 6).mean() > 0.01


@pytest.mark.starts_process
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_a_video_plays_under_the_mouse_and_goes_back_to_its_poster(out, tmp_path):
    look = """<script>
      const video = document.querySelector("video"); const said = [];
      video.addEventListener("timeupdate", () => video.currentTime > 0.05 && said.push("moves"));
      video.dispatchEvent(new Event("mouseenter"));
      setTimeout(() => { video.dispatchEvent(new Event("mouseleave")); said.push(video.paused, video.currentTime);
        document.title = JSON.stringify([...new Set(said)]); }, 2500);
    </script></body>"""
    html = (out / "gallery.html").read_text()
    (out / "played.html").write_text(html.replace("</body>", look))
    dom = browse(out / "played.html", tmp_path, "--dump-dom")
    assert json.loads(re.search(r"<title>(.*?)</title>", dom)[1]) == ["moves", True, 0]


def browse(page, tmp_path, *flags):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--disable-component-update", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=4000", *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
