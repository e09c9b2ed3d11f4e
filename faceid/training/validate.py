"""Do one validation.

It measures losses at fixed noise and renders videos at fixed seeds. It tells whose face the videos show, and whether
this validation is the best yet. All ranks call and all get the same numbers. Clips and scenes are shared out among the
ranks. Under ZeRO-3 each forward pass gathers parameters from all ranks, so all of them do all of it together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from faceid import flow
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.stream.held_out import HeldOut
from faceid.data.stream.training_set import TrainingSet
from faceid.files.writing import make_folder, make_parents
from faceid.media.video import read_video, write_video
from faceid.models.base.wan import load_wan
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.rendering_state import rendering
from faceid.training.build import Run
from faceid.training.measuring.metrics import Metrics
from faceid.training.validation.best import Best
from faceid.training.validation.judge import Judge, Judging, mean_scores, picture_scores
from faceid.training.validation.losses import (
    CONDITIONS,
    HEAD,
    WHOLE,
    FacePair,
    gap_of,
    measure_losses,
    measure_shown,
    pair_faces,
    shown_clip,
)
from faceid.training.validation.scenes import Scene, SceneRenderer, choose_scenes, strip

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Clips per group of dancers. 16 clips are 128 forward passes of two samples.
SWAP_GAP_CLIPS = 16
NUM_BANDS = 4


def groups_of(latents: LatentSets, held_out: HeldOut) -> dict[str, list[int]]:
    """Clips by number, in groups: trained on; held out, of dancers who are trained on; of held-out dancers."""
    groups: dict[str, list[int]] = {"training_dancers": [], "heldout_clips": [], "heldout_dancers": []}
    for number, (clip, dancer) in enumerate(zip(latents.clips, latents.dancers, strict=True)):
        is_of_known = "heldout_clips" if held_out.has(clip, dancer) else "training_dancers"
        groups["heldout_dancers" if dancer in held_out.dancers else is_of_known].append(number)
    return groups


def _pair_photos(data: TrainingSet) -> list[FacePair]:
    """The held-out photos by place, with the target's face from the other photos, and a dancer's. Each another's."""
    known = [
        pool for name in sorted(set(data.latents.dancers)) if (pool := data.pairing.faces.of_dancer(name)) is not None
    ]
    if not known:
        return []
    return [
        FacePair(place, data.pairing.photo_face(key), known[place % len(known)].mean(), target_share=1.0)
        for place, key in enumerate(data.heldout_photos)
    ]


class Validation:
    """The measured clips and scenes, chosen once for a run, so that validations can be compared."""

    def __init__(self, run: Run, metrics: Metrics, judging: Judging | None, private: bool = True) -> None:
        """judging: None for videos and losses without scores. private: whether only the owner may see the videos."""
        self.run, self.metrics, self.judging, self._private = run, metrics, judging, private
        data, settings, validation = run.training_set, run.sections.noise, run.sections.validation
        self.heldout = sorted(data.held_out.dancers)
        self.dancers = sorted(set(data.latents.dancers) - data.held_out.dancers)
        self.pairs = {
            name: pair_faces(data.latents, data.pairing.faces, numbers, SWAP_GAP_CLIPS)
            for name, numbers in groups_of(data.latents, data.held_out).items()
        }
        self.photo_pairs = _pair_photos(data)
        self.levels = flow.sigma_quantiles(NUM_BANDS, settings.shift, settings.logit_normal_share, run.wan.files.noise)
        self.scenes = choose_scenes(
            data.latents,
            data.pairing.faces,
            run.identity.embedding,
            data.held_out,
            validation.validation_videos,
            validation.validation_people,
        )
        self.best = Best.restored(validation.best_metric, run.saved.get("validation"))
        self._judge: Judge | None = None

    def validate(self, epoch: int, done: int) -> bool:
        """Validate after epoch `epoch` (from 0) and `done` steps. Return whether it is the best so far."""
        # The averaged weights are looked at, since they are saved for use. Training goes on as if nobody had looked.
        with rendering(self.run.wan.transformer, self.run.adapter), self.run.sharded.averaged():
            values = self._losses()
            values |= self._videos(epoch, done)
        is_best = self.best.update(values, done)
        if f"validation/{self.best.metric}" not in values:
            log.warning("best_metric=%s: this validation could not measure it; nothing is best", self.best.metric)
        if self.best.value is not None:
            values["validation/best_step"] = float(self.best.step)
        self.metrics.log(done, values)
        if is_best:
            log.info("best so far by %s: %.5g at step %d", self.best.metric, self.best.value, done)
        return is_best

    def _losses(self) -> dict[str, float]:
        """For each group of dancers: the swap gap, and the loss under each condition, over all and by band of noise."""
        data, values = self.run.training_set, {}

        def measure(pair: FacePair) -> Tensor | None:
            transformer, seed = self.run.wan.transformer, self.run.sections.optimizer.seed
            return measure_losses(transformer, data.latents, data.statistics, pair, seed, self.levels)

        def measure_photo(pair: FacePair) -> Tensor:
            transformer, seed = self.run.wan.transformer, self.run.sections.optimizer.seed
            sample, geometry = data.shown_photo(data.heldout_photos[pair.number]), data.latents.geometry
            shown = shown_clip(sample, data.statistics, geometry)
            return measure_shown(transformer, shown, pair, seed, self.levels)

        found = {group: self._shared(pairs, measure) for group, pairs in self.pairs.items()}
        found["target"] = self._shared(self.photo_pairs, measure_photo)
        for group, of_group in found.items():
            measured = [losses for losses in of_group if losses is not None]
            if not measured:
                continue
            gap, means = gap_of(measured), torch.stack(measured).mean(0)
            values[f"validation/swap_gap_{group}"] = gap.gap
            values[f"validation/head_loss_{group}"] = gap.right
            for place, condition in enumerate(CONDITIONS):
                values[f"validation/loss_{group}_{condition}"] = float(means[place, :, WHOLE].mean())
                for at, level in enumerate(self.levels):
                    values[f"bands/loss_{group}_{condition}_{level:.2f}"] = float(means[place, at, WHOLE])
                    values[f"bands/head_loss_{group}_{condition}_{level:.2f}"] = float(means[place, at, HEAD])
        return values

    def _videos(self, epoch: int, done: int) -> dict[str, float]:
        """Render, write and show every scene. Return the judge's scores."""
        if not self.scenes:
            return {}
        run = self.run
        if run.wan.vae is None:
            run.wan.vae = load_wan(run.wan.files, ("vae",), run.world.accelerator.device, name=run.wan.name).vae
        sampling = Sampling(
            cfg_scale=run.sections.validation.validation_cfg_scale,
            num_inference_steps=run.sections.validation.validation_steps,
        )
        seed = run.sections.optimizer.seed
        renderer = SceneRenderer(run.wan, run.adapter, run.training_set.latents, sampling, seed)
        judge = self._know_people(renderer)
        folder = run.folder / f"validation_epoch_{epoch + 1}"
        # The base's videos serve only for this guidance and number of steps.
        # Earlier versions rendered all videos from one noise, into folders of other names.
        of_base = f"cfg_{sampling.cfg_scale:g}_steps_{sampling.num_inference_steps}_own_noises"
        base_folder = run.folder / "validation_base" / of_base
        # One list for all ranks, because under ZeRO-3 all must render the same.
        (rendered,) = broadcast_object_list([sorted(path.stem for path in base_folder.glob("*.mp4"))])
        photo, prefix = self._photo(renderer), self.judging.prefix if self.judging is not None else ""

        def show(scene: Scene) -> tuple[str, dict[str, float], np.ndarray]:
            frames = renderer.render(scene)
            self._write(folder / f"{scene.name}.mp4", frames)
            base_path = base_folder / f"{scene.name}.mp4"
            if scene.name in rendered:
                base = read_video(base_path).frames
            else:
                base = renderer.base(scene)
                self._write(base_path, base)
            rows = [renderer.pose(scene.number), renderer.clip(scene.number), base, frames]
            scores = picture_scores(run.training_set.latents, scene.number, frames)
            if judge is not None:
                scores |= {f"{prefix}{name}": score for name, score in judge.score(scene, frames).items()}
            reference = photo if scene.shown_by is None else renderer.head(scene.shown_by)
            return scene.who, scores, strip(rows, reference)

        shown = self._shared(self.scenes, show)
        for scene, (_, _, picture) in zip(self.scenes, shown, strict=True):
            self.metrics.log_picture(f"validation/{scene.name}", picture, done)
        log.info("validation videos: %d in %s", len(shown), folder)
        return mean_scores([(who, scores) for who, scores, _ in shown])

    def _know_people(self, renderer: SceneRenderer) -> Judge | None:
        if self.judging is None:
            return None
        if self._judge is None:
            device = str(self.run.world.accelerator.device)
            with self.run.world.loading_whole():
                self._judge = self.judging.judge(self.run.training_set.latents, device)
            self._judge.know(self.judging.photo_crops(), [*self.heldout, *self.dancers], renderer)
        return self._judge

    def _photo(self, renderer: SceneRenderer) -> np.ndarray | None:
        """The target's first photo, at the clips' size as in training."""
        photos = self.run.training_set.photos
        return renderer.picture(photos[min(photos)].latent) if photos else None

    def _write(self, path: Path, frames: np.ndarray) -> None:
        """Write a video on the rank that rendered it, or on the main rank if all did."""
        if self.run.world.is_main or self.run.world.kind != "zero3":
            make_folder(self.run.folder / path.relative_to(self.run.folder).parts[0], self._private)
            make_parents(path)
            write_video(path, frames, self.run.metadata.fps)

    def _shared(self, items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
        """`work` of every item, in order, on every rank."""
        world = self.run.world
        processes = world.accelerator.num_processes
        if world.kind == "zero3" or processes == 1:
            return [work(item) for item in items]
        own = [(number, work(items[number])) for number in range(world.rank, len(items), processes)]
        gathered: list[tuple[int, Any]] = gather_object(own)
        return [result for _, result in sorted(gathered, key=lambda entry: entry[0])]
