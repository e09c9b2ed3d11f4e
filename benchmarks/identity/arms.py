"""What each recipe makes of several people, side by side: rendered, judged, and compared.

    python -m benchmarks.identity.arms --output_dir O                        every arm, every target
    python -m benchmarks.identity.arms --output_dir O --arms '[base, ours_from_nothing]' --num_targets 2
    python -m benchmarks.identity.arms --output_dir O --arms '[naive]' --earlier P/arms.json

Every arm renders every target in the same poses, by the same noises: one of its own for each pose, person and number.
All is done by the product's own commands. A step that was done before is not done again, so a killed run goes on.
Writes arms.json, arms.videos.csv.gz and arms.md; `render/ARM_TARGET/` has the videos, `train/ARM/TARGET/` the runs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as settings_class

from benchmarks.identity.arm_figures import REAL, VIDEOS_SUFFIX, measure_arms, read_earlier, write_rows
from benchmarks.identity.arm_list import ARMS, TRIGGER, ArmPlan
from benchmarks.identity.pasted_heads import paste_heads
from benchmarks.identity.steps import Steps, two_at_once
from faceid.config import parse_sections
from faceid.description.description_file import read_description
from faceid.errors import ConfigError, run_entry_point
from faceid.files.documents import read_json
from faceid.files.outputs import claim_folder
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_atomic, write_json
from faceid.models.adapter_settings import DEFAULT_PROMPT
from faceid.models.prompt_phrases import join_phrases
from faceid.toy.descriptions import describe
from faceid.toy.people import draw_person

WORK = "arms of a benchmark"
# Frames, pose and guidance as the demo has them, too (docs/decisions/likeness.md).
SIZE = ("--num_frames", "9", "--height", "96", "--width", "96")
RENDER = (
    *("--control_scale", "1.5", "--cfg_scale", "1.3", "--cfg_start", "0.3", "--reference_guidance", "true"),
    *("--num_inference_steps", "6", "--gallery", "false"),
)
FINAL = "face_lora_final.safetensors"
# One process each, since two runs train beside each other. Losses are those of two processes (prove-training).
LAUNCH = (
    *("-m", "accelerate.commands.launch", "--config_file", "launch/accelerate/cpu.yaml"),
    *("--num_processes", "1", "--main_process_port", "0"),
)
Words = list[object]
# Settings that say which videos there are.
RENDERED = ("num_targets", "num_poses", "num_noises", "num_photos", "world", "render")
ENCODERS = {"weak": "toy", "strong": "toy_strong"}


@settings_class(frozen=True)
class ArmsSettings:
    """Who is learnt, how, and in how many videos that is judged."""

    output_dir: Path
    """Folder to work in. A new one, or one that this command made."""
    arms: list[str] = field(default_factory=lambda: list(ARMS))
    """Arms, by name (benchmarks/identity/arm_list.py)."""
    num_targets: Annotated[int, Field(ge=1, le=16)] = 8
    """People who are learnt, each for themselves."""
    num_poses: Annotated[int, Field(ge=1, le=99)] = 15
    """Dances of strangers that each is rendered in."""
    num_noises: Annotated[int, Field(ge=1, le=9)] = 2
    """Noises for each pose and person."""
    num_photos: Annotated[int, Field(ge=3, le=12)] = 12
    """Photos of each target."""
    world: Annotated[int, Field(ge=0)] = 3
    """Seed of the dancers, targets and poses."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the trainings."""
    earlier: Path | None = None
    """An arms.json of before, of the same people, poses and noises. Its other arms are compared with these."""


@dataclass(frozen=True)
class Bench:
    """A folder in which all is prepared, and the settings."""

    folder: Path
    settings: ArmsSettings

    @property
    def steps(self) -> Steps:
        """What is done, and how long it took."""
        return Steps(self.folder)

    @property
    def targets(self) -> list[str]:
        """Names of the people who are learnt."""
        return [f"d{number:02d}" for number in range(1, self.settings.num_targets + 1)]

    def prepare(self) -> None:
        """Draw dancers, people and poses; make latents and identities of them."""
        out, world = self.folder, self.settings.world
        toy = ["tools/make_toy_dataset.py", "--with_target", "false"]
        dancers: Words = ["--num_people", "8", "--clips_per_person", "3", "--num_frames", "33", "--seed", world]
        self.steps.once("dancers", [*toy, *dancers, "--output_dir", out / "dancers"])
        # Sixteen to tell apart; the first of them are learnt. Each dances twice: what real clips score.
        people: Words = [
            "--num_people",
            "16",
            "--clips_per_person",
            "2",
            "--photos_per_person",
            self.settings.num_photos,
        ]
        people += ["--reference_photos", "4", "--num_frames", "9", "--seed", 100 + world]
        self.steps.once("people", [*toy, *people, "--output_dir", out / "people"])
        # Their numbers are their own, so that no clip has another's name.
        poses: Words = ["--num_people", self.settings.num_poses, "--first_person", 51, "--clips_per_person", "1"]
        poses += ["--num_frames", "9"]
        self.steps.once(
            "poses", [*toy, *poses, "--photos_per_person", "0", "--seed", 200 + world, "--output_dir", out / "poses"]
        )
        shards = ["--dance_videos_dir", out / "dancers/videos", "--pose_videos_dir", out / "dancers/poses"]
        self.steps.once("shards", ["tools/make_shards.py", *shards, *SIZE, "--output_dir", out / "shards"])
        latents = ["--shards", out / "shards", "--model_path", "toy", "--output_dir", out / "latents"]
        self.steps.once("latents", ["tools/encode_latents.py", *latents])
        # References of strangers are the weak one's.
        for strength in sorted({"weak", *(ARMS[name].encoder for name in self.settings.arms)}):
            photos = ["--people_dir", out / "people/photos", "--encoder_path", ENCODERS[strength]]
            done = ["tools/prepare_face_embeddings.py", *photos, "--output_dir", out / "identities" / strength]
            self.steps.once(f"identities_{strength}", done)
        self._copy_truth()

    def describe(self, target: str) -> None:
        """Let the base describe one target by the photos that the weak encoder kept."""
        words: Words = ["--face_images_dir", self.folder / "people/photos" / target]
        words += ["--face_embedding", self.folder / "identities/weak" / target]
        words += ["--model_path", "toy", "--output", self.description_of(target)]
        self.steps.once(f"describe_{target}", ["tools/describe_person.py", *words], threads=1)

    def train(self, arm: ArmPlan, target: str) -> None:
        """Train one target by one arm's recipe."""
        out = self.folder
        run = self.run_of(arm, target)
        flags: Words = ["--config", "configs/demo.yaml", "--encoder_path", ENCODERS[arm.encoder]]
        flags += ["--face_images_dir", out / "people/photos" / target]
        flags += ["--face_embedding", out / "identities" / arm.encoder / target]
        flags += ["--seed", self.settings.seed]
        flags += ["--target_description", self.description_of(target)] if arm.is_described else []
        if not arm.has_pasted_heads:
            flags += ["--latents", out / "latents", "--shards", out / "shards"]
        else:
            self._paste(target)
            pasted = out / "pasted" / target
            flags += ["--latents", f"[{out / 'latents'}, {pasted / 'latents'}]"]
            flags += ["--shards", f"[{out / 'shards'}, {pasted / 'shards'}]"]
        begun = ["--init_adapter", arm.adapter] if arm.adapter else []
        words = [*LAUNCH, "train.py", *flags, *begun, *arm.train, "--output_dir", run]
        self.steps.once(f"train_{arm.name}_{target}", words, threads=1)

    def _paste(self, target: str) -> None:
        """The dancers' clips with a target's heads, as latents."""
        out, folder = self.folder, self.folder / "pasted" / target
        mark = self.steps.mark(f"paste_{target}")
        if not mark.is_file():
            paste_heads(out / "dancers", out / "people/photos" / target, folder, self.settings.seed)
            mark.write_text("0")
        shards = ["--dance_videos_dir", folder / "videos", "--pose_videos_dir", folder / "poses"]
        self.steps.once(
            f"paste_shards_{target}", ["tools/make_shards.py", *shards, *SIZE, "--output_dir", folder / "shards"]
        )
        latents = ["--shards", folder / "shards", "--model_path", "toy", "--output_dir", folder / "latents"]
        self.steps.once(f"paste_latents_{target}", ["tools/encode_latents.py", *latents])

    def render(self, arm: ArmPlan, target: str) -> None:
        """Render one target by one arm."""
        out, settings = self.folder, self.settings
        poses = sorted(file.name for file in (out / "poses/poses").glob("*_pose.mp4"))
        flags: Words = [*RENDER, *SIZE, "--noises_per_video", settings.num_noises]
        flags += ["--identities_dir", out / "identities" / arm.encoder, *arm.sample]
        if arm.strangers_reference:
            flags += ["--reference_image", self.strangers_reference(target)]
        row = {"pose": poses, "identity": target, "face_lora_path": str(self.adapter_of(arm, target))}
        self.render_jobs(
            f"{arm.name}_{target}", [row | ({"prompt": self.prompt(arm, target)} if arm.prompt else {})], flags
        )

    def render_jobs(self, name: str, rows: list[dict[str, Any]], flags: Sequence[object]) -> Path:
        """Render a list of jobs, each video of its own noise, into `render/NAME`. Returns that folder."""
        jobs, renders = self.folder / "jobs" / f"{name}.jsonl", self.folder / "render" / name
        jobs.parent.mkdir(exist_ok=True)
        write_atomic(jobs, "".join(f"{json.dumps(row)}\n" for row in rows))
        words: Words = ["--model_path", "toy", "--seed", "per_video", "--fps", "16", *flags]
        words += ["--pose_videos_dir", self.folder / "poses/poses", "--jobs", jobs, "--output_dir", renders]
        self.steps.once(f"render_{name}", ["sample.py", "--batch", *words], threads=1)
        return renders

    def prompt(self, arm: ArmPlan, target: str) -> str:
        """What an arm's videos of a target are told to show."""
        if arm.prompt == "described":
            seed = read_json(self.folder / "people/world.json")["people"][target]["seed"]
            return describe(draw_person(seed), DEFAULT_PROMPT)
        opening = f"{TRIGGER} dancing in a studio" if arm.prompt.startswith("trigger") else DEFAULT_PROMPT
        is_found = arm.prompt.endswith("found")
        return join_phrases(opening, [read_description(self.description_of(target)).text] if is_found else [])

    def strangers_reference(self, target: str) -> Path:
        """The best photo of the next person, who is somebody else."""
        stranger = f"d{int(target[1:]) % 16 + 1:02d}"
        return self.folder / "identities/weak" / stranger / "references/1.png"

    def adapter_of(self, arm: ArmPlan, target: str) -> str | Path:
        """What an arm renders a target with."""
        if arm.trained_by:
            return self.run_of(ARMS[arm.trained_by], target) / FINAL
        return self.run_of(arm, target) / FINAL if arm.train else arm.adapter

    def description_of(self, target: str) -> Path:
        """The file of a target's description."""
        return self.folder / "descriptions" / f"{target}.safetensors"

    def run_of(self, arm: ArmPlan, target: str) -> Path:
        """The folder of a training."""
        return self.folder / "train" / arm.name / target

    def judge(self, arm: str) -> None:
        """Let both judges look at every video of an arm, or of the people's own clips (REAL)."""
        out, flags = self.folder, ("--real", REAL, "--real_vae", "toy") if arm == REAL else ()
        shown = [out / "people/videos"] if arm == REAL else [out / f"render/{arm}_{target}" for target in self.targets]
        self.evaluate(f"judge_{arm}", [f"{arm}={folder}" for folder in shown], out / "judged" / arm, flags)

    def evaluate(self, step: str, arms: Sequence[str], output_dir: Path, flags: Sequence[object]) -> None:
        """Let both judges score arms (NAME=FOLDER)."""
        truth = self.folder / "heads"
        words: Words = [
            "tools/evaluate.py",
            "--renders",
            f"[{', '.join(arms)}]",
            "--heads_dir",
            truth,
            "--joints_dir",
            truth,
        ]
        words += ["--references_dir", self.folder / "people/references", "--pose_reader", "toy", *flags]
        words += ["--recognisers", "[toy_recogniser, toy_readout]", "--output_dir", output_dir]
        self.steps.once(step, words, threads=1)

    def _copy_truth(self) -> None:
        """Heads and joints of all clips that are judged, into one folder."""
        folder = self.folder / "heads"
        folder.mkdir(exist_ok=True)
        for world in ("poses", "people"):
            for pattern in ("videos/*.heads.json", "poses/*.joints.json"):
                for file in (self.folder / world).glob(pattern):
                    shutil.copyfile(file, folder / file.name)


def main(argv: list[str] | None = None) -> int:
    """Parse, prepare, train, render, judge, compare."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("benchmarks.identity.arms", __doc__ or "", [ArmsSettings], words)
    for name in settings.arms:
        if name not in ARMS:
            raise ConfigError(f"arms: {name} is none of {', '.join(ARMS)}")
    earlier = None
    if settings.earlier is not None:
        told, asked = read_json(settings.earlier), _told(settings)
        earlier = read_earlier(settings.earlier, told, {name: asked[name] for name in RENDERED})
    claim_folder(settings.output_dir, WORK, [], key="output_dir")
    bench = Bench(settings.output_dir.resolve(), settings)
    bench.prepare()
    plans = [ARMS[name] for name in settings.arms]
    trained = dict.fromkeys(ARMS[plan.trained_by] if plan.trained_by else plan for plan in plans)
    runs = [(plan, target) for plan in trained if plan.train for target in bench.targets]
    two_at_once("descriptions", [partial(bench.describe, target) for target in bench.targets])
    two_at_once("trainings", [partial(bench.train, plan, target) for plan, target in runs])
    renders = [partial(bench.render, plan, target) for plan in plans for target in bench.targets]
    two_at_once("renders", renders)
    two_at_once("judges", [partial(bench.judge, name) for name in (REAL, *settings.arms)])
    record, table, rows = measure_arms(bench.folder, plans, bench.targets, bench.steps.seconds_of, earlier)
    write_json(bench.folder / "arms.json", {**describe_provenance(), "settings": _told(settings), **record})
    write_rows(bench.folder / f"arms{VIDEOS_SUFFIX}", rows)
    write_atomic(bench.folder / "arms.md", table)
    print(table)
    return 0


def _told(settings: ArmsSettings) -> dict[str, object]:
    told = {name: value for name, value in vars(settings).items() if name not in ("output_dir", "earlier")}
    return {**told, "render": list(RENDER)}


if __name__ == "__main__":
    run_entry_point(main)
