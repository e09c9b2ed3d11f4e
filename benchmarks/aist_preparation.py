"""What preparing AIST costs on CPUs and disks, a clip: films of its size through the tools as configs/aist has them.

    python benchmarks/aist_preparation.py

Films are drawn (1080p60, 10 Mbit/s, 10 s; `moving_pictures.py`), with AIST++ keypoints of a dancer; each tool runs as a
user runs it, on one film and on several, so that what starting costs is told apart from what a clip costs. CPU seconds
are those of the process and its children. Writes benchmarks/records/aist_preparation.json.
"""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from moving_pictures import draw_film
from proof import RECORDS, REPOSITORY, memory_folder

from faceid.errors import run_entry_point
from faceid.logs import progress
from faceid.media.video import write_video
from faceid.provenance import describe_provenance, write_json
from faceid.toy.dance import dance_joints

FILM_HW, FILM_FPS, FILM_FRAMES, FILM_CRF = (1080, 1920), 60, 600, 23
FEW, MANY = 1, 4
# Of one camera: AIST++'s 10,108,015 frames are those of nine.
AIST_SEQUENCES, AIST_HOURS = 1408, 10_108_015 / 9 / 60 / 3600
TOOLS = ("split_clips", "render_poses", "make_shards")


@dataclass(frozen=True)
class Cost:
    """Of one tool on some films."""

    cpu_s: float
    clips: int
    num_bytes: int


def main() -> int:
    """Draw, prepare, divide."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        work = Path(name)
        film = work / "film.mp4"
        write_video(film, draw_film(FILM_FRAMES, FILM_HW, seed=0), FILM_FPS, FILM_CRF)
        few, many = (dict(_prepare(work, film, count)) for count in (FEW, MANY))
        film_mbit_per_s = film.stat().st_size * 8 / 1e6 / (FILM_FRAMES / FILM_FPS)
    clips = many["make_shards"].clips - few["make_shards"].clips
    record = {
        **describe_provenance(),
        "film_mbit_per_s": round(film_mbit_per_s, 1),
        "clips_a_film": clips / (MANY - FEW),
    }
    for tool in TOOLS:
        record[tool] = {
            "cpu_s_a_clip": round((many[tool].cpu_s - few[tool].cpu_s) / clips, 3),
            "mb_a_clip": round((many[tool].num_bytes - few[tool].num_bytes) / clips / 1e6, 3),
        }
    total = sum(record[tool]["cpu_s_a_clip"] for tool in TOOLS)
    all_clips = AIST_SEQUENCES * AIST_HOURS * 3600 / AIST_SEQUENCES / (FILM_FRAMES / FILM_FPS) * record["clips_a_film"]
    record["aist_one_camera"] = {
        "sequences": AIST_SEQUENCES,
        "hours_of_film": round(AIST_HOURS, 2),
        "clips_about": round(all_clips),
        "cpu_hours": round(total * all_clips / 3600, 1),
        "gb_of_shards": round(record["make_shards"]["mb_a_clip"] * all_clips / 1e3, 1),
    }
    write_json(RECORDS / "aist_preparation.json", record)
    print({key: record[key] for key in (*TOOLS, "clips_a_film", "aist_one_camera")})
    return 0


def _prepare(work: Path, film: Path, count: int) -> list[tuple[str, Cost]]:
    films, keypoints, out = (work / f"{kind}_{count}" for kind in ("films", "keypoints", "out"))
    films.mkdir()
    keypoints.mkdir()
    for number in range(count):
        sequence = f"gHO_sBM_cAll_d{number + 19:02d}_mHO0_ch01"
        (films / f"{sequence.replace('cAll', 'c01')}.mp4").hardlink_to(film)
        (keypoints / f"{sequence}.pkl").write_bytes(_keypoints(number))
    flags = {
        "split_clips": ["--videos_dir", films, "--keypoints_dir", keypoints, "--ignore_list", "[]"],
        "render_poses": ["--videos_dir", out / "split_clips"],
        "make_shards": ["--dance_videos_dir", out / "split_clips", "--pose_videos_dir", out / "render_poses"],
    }
    flags["make_shards"] += ["--model_path", "toy"]
    return [(tool, _run(tool, flags[tool], out / tool)) for tool in progress(TOOLS, f"{count} films", unit="tool")]


def _run(tool: str, flags: list[object], folder: Path) -> Cost:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, f"tools/{tool}.py", "--config", f"configs/aist/{tool}.yaml", *map(str, flags)]
    done = subprocess.run(
        [*command, "--output_dir", str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{tool}: exit code {done.returncode}: {done.stderr[-2000:]}")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    files = [path for path in folder.rglob("*") if path.suffix in (".mp4", ".tar")]
    clips = len(list((folder.parent / "split_clips").glob("*.mp4")))
    return Cost(cpu_s, clips, sum(path.stat().st_size for path in files))


def _keypoints(seed: int) -> bytes:
    """A dance in the middle of a film of 1080p, as AIST++ writes it."""
    slow = dance_joints("HO", seed, FILM_FRAMES // 3 + 2, FILM_HW)
    at = np.arange(FILM_FRAMES) / 4
    low = at.astype(int)
    part = (at - low)[:, None, None]
    points = np.full((9, FILM_FRAMES, 17, 3), np.nan)
    points[0, :, :, :2] = (1 - part) * slow[low] + part * slow[low + 1]
    points[0, :, :, 2] = 0.9
    return pickle.dumps({"keypoints2d": points, "det_scores": np.ones((9, FILM_FRAMES))})


if __name__ == "__main__":
    run_entry_point(main)
