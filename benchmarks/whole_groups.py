"""Which sixteen people of the training world can be measured? Those whom detector and judge know in real pictures.

    python benchmarks/whole_groups.py --output_dir O

Groups of sixteen in a row, from the first dancer on, that hold nobody whom stage 1 kept back, nobody whom the detector
misses in most photos, and whose real clips the evaluation's recogniser all gives to the right person: where it cannot
tell two people apart in drawings, no render could. Nothing that was rendered is looked at. launch/demo.sh takes the
first three. Writes groups.json.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import yaml
from identity_checks import real_clips_rank1
from proof import REPOSITORY
from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.data.order import hold_out
from faceid.errors import run_entry_point
from faceid.faces.photos.detect import FaceDetector, load_detector
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.logs import progress
from faceid.media import images
from faceid.training.training_settings import TrainingSettings
from toy_factory.build_base import WORLD

GROUP = 16
# Of a person's photos, and of the references: too few, and preparing or judging refuses them.
FEWEST_FOUND = {"photos": 6, "references": 2}


@dataclass(frozen=True)
class Settings:
    """How far to look."""

    output_dir: Path
    """Folder for the drawings and groups.json; one in memory is faster."""
    num_people: Annotated[int, Field(ge=GROUP, le=99)] = 99
    """Dancers of the training world to draw, from the first on; names of clips have two digits for them."""
    clips_per_person: Annotated[int, Field(gt=0)] = 3
    """Real clips of each."""


def main(argv: list[str] | None = None) -> int:
    """Draw, look, choose."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("whole_groups.py", __doc__ or "", [Settings], words)
    world = settings.output_dir / "world"
    make = ["tools/make_toy_dataset.py", "--output_dir", world, "--num_people", settings.num_people, "--num_frames", 9]
    make += ["--clips_per_person", settings.clips_per_person, "--reference_photos", 4, "--seed", WORLD["seed"]]
    subprocess.run([sys.executable, *map(str, make)], cwd=REPOSITORY, check=True)
    names = [f"d{number:02d}" for number in range(1, settings.num_people + 1)]
    missed = _missed(world, names)
    kept_back = sorted(set(_kept_back()) & set(names))
    groups, confused, first = [], [], 0
    while first + GROUP <= len(names):
        group = names[first : first + GROUP]
        if set(group) & {*missed, *kept_back}:
            first += 1
            continue
        rank1 = _rank1_of_real_clips(world, group, settings.output_dir / f"group_{group[0]}")
        found = {"first_person": first + 1, "real_rank1": round(rank1, 4)}
        print(found, flush=True)
        # One clip on the wrong side of a look-alike makes the group unfit; the next begins one person later.
        (groups if rank1 == 1.0 else confused).append(found)
        first += GROUP if rank1 == 1.0 else 1
    record = {**describe_provenance(), "num_people": len(names), "clips_per_person": settings.clips_per_person}
    record |= {"missed_by_the_detector": missed, "kept_back_in_stage_1": kept_back}
    write_json(settings.output_dir / "groups.json", {**record, "whole": groups, "confused": confused})
    return 0


def _kept_back() -> list[str]:
    config = yaml.safe_load((REPOSITORY / "configs/toy_stage1.yaml").read_text())
    everybody = [f"d{number:02d}" for number in range(1, WORLD["num_people"] + 1)]
    return hold_out(everybody, config["heldout_dancers"], config.get("seed", TrainingSettings.seed))


def _missed(world: Path, names: list[str]) -> list[str]:
    detector = load_detector("haar")
    return [
        name
        for name in progress(names, "people", unit="person")
        if any(_num_found(world / kind / name, detector) < fewest for kind, fewest in FEWEST_FOUND.items())
    ]


def _num_found(folder: Path, detector: FaceDetector) -> int:
    return sum(bool(detector.detect(images.read_photo(file))) for file in folder.iterdir())


def _rank1_of_real_clips(world: Path, group: list[str], folder: Path) -> float:
    """The evaluation's own verdict, among the group alone."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "videos").mkdir(parents=True)
    for name in group:
        shutil.copytree(world / "references" / name, folder / "references" / name)
        for file in (world / "videos").glob(f"*_{name}_*"):
            shutil.copy(file, folder / "videos")
    return real_clips_rank1(folder / "videos", folder / "references", folder / "evaluation")


if __name__ == "__main__":
    run_entry_point(main)
