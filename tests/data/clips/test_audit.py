"""What a data set would teach is said before anything is trained, in words and numbers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_clips import add_clip, add_heads
from launching import run_command

from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.audit import audit_pairs, look_of
from faceid.data.clips.audit_report import render_audit, write_audit
from faceid.data.clips.pairs import find_pairs
from faceid.media.video import read_video, write_video

REPOSITORY = Path(__file__).resolve().parents[3]
CLIPS = ClipSettings(num_frames=5, height=64, width=96, fps=8)
NAMES = (
    "gBR_sBM_c01_d04_mBR0_ch01",
    "gBR_sBM_c02_d04_mBR0_ch02",
    "gHO_sBM_c01_d19_mHO0_ch01",
    "gHO_sBM_c01_d19_mHO0_ch02",
)


def make(folders, names=NAMES, head=40):
    """Clips of these names; their heads are `head` pixels high in half of the frames, as in others' eyes."""
    videos, poses, _ = folders
    for number, name in enumerate(names):
        add_clip(videos, poses, name, seed=number)
        if head:
            add_heads(videos, name, [[10, 10, 10 + head, 10 + head] if k % 3 else None for k in range(24)])
    return videos, poses


def audited(videos, poses, **changes):
    return audit_pairs(find_pairs(videos, poses).pairs, replace(CLIPS, **changes), spatial_factor=8)


def said(audit, word):
    return [warning for warning in audit.warnings if word in warning]


def test_a_good_set_is_warned_of_what_aist_is_like_alone(folders):
    audit = audited(*make(folders))
    # Each dancer has one genre, as in AIST.
    assert len(audit.warnings) == 1 and said(audit, "every dancer has one genre")
    assert audit.dancers_by_genre == {"d04": {"gBR": 2}, "d19": {"gHO": 2}}
    assert [(g.name, g.clips, g.dancers, g.head_px, g.head_cells) for g in audit.cameras] == [
        ("c01", 3, 2, 40.0, 5.0),
        ("c02", 1, 1, 40.0, 5.0),
    ]
    assert audit.clips[0].visible == pytest.approx(2 / 3) and audit.clips[0].correlation > 0.7


@pytest.mark.parametrize(
    ("head", "word"), [(25, "identity will hardly be learned"), (36, "little to learn a face from")]
)
def test_small_heads_are_said_in_pixels_and_cells(folders, head, word):
    (warning,) = said(audited(*make(folders, head=head)), word)
    assert f"heads are {head} px, {head / 8:.1f} latent cells" in warning


def test_heads_are_measured_as_trained_not_as_filmed(folders):
    audit = audited(*make(folders), height=32, width=48)
    assert audit.clips[0].head_px == pytest.approx(20) and said(audit, "heads are 20 px")


def test_a_set_without_heads_or_dancers_is_told_what_to_do(folders):
    audit = audited(*make(folders, names=("a", "b", "c"), head=0))
    assert said(audit, "no clip has head boxes") and said(audit, "every clip is of another dancer (3)")


def test_odd_clips_are_named(folders):
    videos, poses = make(folders)
    still = np.full((24, 64, 96, 3), 90, np.uint8)
    still[:, 20:40, 30:60] = 200
    for folder, name in ((videos, "still.mp4"), (poses, "still_pose.mp4")):
        write_video(folder / name, still, 8)
    (videos / "broken.mp4").write_bytes(b"nothing")
    (poses / "broken_pose.mp4").write_bytes((poses / f"{NAMES[0]}_pose.mp4").read_bytes())
    add_clip(videos, poses, "swapped", seed=7)
    add_clip(videos, poses, "other", seed=3)
    (poses / "swapped_pose.mp4").write_bytes((poses / "other_pose.mp4").read_bytes())
    add_heads(videos, "swapped", [[10, 10, 50, 50]] + [None] * 23)
    (videos / "copy.mp4").write_bytes((videos / f"{NAMES[2]}.mp4").read_bytes())
    (poses / "copy_pose.mp4").write_bytes((poses / f"{NAMES[2]}_pose.mp4").read_bytes())
    audit = audited(videos, poses)
    assert said(audit, "1 of 9 clips cannot be used, such as broken: not a readable video")
    assert said(audit, "1 clips move differently from their poses, such as swapped")
    assert said(audit, "1 clips hardly move, such as still")
    assert said(audit, "1 clips show a head in less than half of their frames, such as swapped")
    assert ("copy", "gho_sbm_c01_d19_mho0_ch01") in audit.near_duplicates
    page = render_audit(audit, 8)
    for name in ("broken", "swapped", "still"):
        assert f"<td>{name}</td>" in page


def test_clips_of_the_same_film_brightened_look_alike_and_others_do_not(folders):
    videos, _ = make(folders)
    first, second = (read_video(videos / f"{name}.mp4").frames for name in NAMES[:2])
    grey = [frames.mean(-1) for frames in (first, np.clip(first * 1.1, 0, 255), second)]
    looks = [look_of(frames) for frames in grey]
    assert (looks[0] ^ looks[1]).bit_count() <= 10 < (looks[0] ^ looks[2]).bit_count()


def test_names_are_no_html(folders, tmp_path):
    videos, poses = make(folders, names=("a", "b"))
    (videos / "dancers.csv").write_text("clip,dancer\na,<script>alert(1)</script>\nb,x\n")
    page = write_audit(audited(videos, poses), tmp_path / "audit", 8).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert json.loads((tmp_path / "audit/audit.json").read_text())["facts"]["dancers"] == "2"


@pytest.mark.starts_process
def test_the_tool_says_it_on_the_screen_too(folders, tmp_path):
    videos, poses = make(folders, head=20)
    words = (
        f"tools/audit_dataset.py --dance_videos_dir {videos} --pose_videos_dir {poses} --output_dir {tmp_path}/audit "
    )
    words += "--num_frames 5 --height 64 --width 96 --fps 8"
    done = run_command([sys.executable, *words.split()], expect=None)
    assert done.returncode == 0 and "heads are 20 px, 2.5 latent cells" in done.stderr
    assert (tmp_path / "audit/audit.html").is_file()
