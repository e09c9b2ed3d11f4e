"""What preparing AIST costs on CPUs and disks, a clip: films of its size through the tools as configs/aist has them.

    python benchmarks/aist_preparation.py

Films are drawn (1080p60, 10 Mbit/s, 10 s; `moving_pictures.py`), with AIST++ keypoints of a dancer; each tool runs as a
user runs it, on one film and on several, so that what starting costs is told apart from what a clip costs. CPU seconds
are those of the process and its children. Writes benchmarks/records/aist_preparation.json.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from moving_pictures import FILM_FPS, FILM_FRAMES, write_film
from proof import RECORDS, REPOSITORY, memory_folder

from faceid.errors import run_entry_point
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.logs import progress

# What the tests draw for the same tools.
sys.path.append(str(REPOSITORY / "tests" / "data"))
from drawn_films import add_aist_keypoints, film_joints

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
        film_mbit_per_s = write_film(film)
        few, many = (dict(_prepare(work, film, count)) for count in (FEW, MANY))
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
    all_clips = AIST_HOURS * 3600 / (FILM_FRAMES / FILM_FPS) * record["clips_a_film"]
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
    for number in range(count):
        sequence = f"gHO_sBM_cAll_d{number + 19:02d}_mHO0_ch01"
        (films / f"{sequence.replace('cAll', 'c01')}.mp4").hardlink_to(film)
        add_aist_keypoints(keypoints, sequence, film_joints(number, FILM_FRAMES))
    flags = {
        "split_clips": ["--videos_dir", films, "--keypoints_dir", keypoints, "--ignore_list", "[]"],
        "render_poses": ["--videos_dir", out / "split_clips"],
        "make_shards": [
            *("--dance_videos_dir", out / "split_clips", "--pose_videos_dir", out / "render_poses"),
            *("--model_path", "toy"),
        ],
    }
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


if __name__ == "__main__":
    run_entry_point(main)
