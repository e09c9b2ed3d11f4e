"""The arms of benchmarks.identity.arms: what each trains, and how it renders.

An arm differs from its neighbour in one thing. Ablations differ from `ours_from_nothing` in one part of the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The word that stands for a person in captions, where no face does. It is none of the language.
TRIGGER = "zqx person"


@dataclass(frozen=True)
class ArmPlan:
    """One arm."""

    name: str
    train: tuple[str, ...] = ()
    """Flags of train.py after configs/demo.yaml; none: nothing is trained."""
    encoder: Literal["weak", "strong"] = "weak"
    adapter: str = ""
    """Where nothing is trained: the adapter that renders. Else what training begins with; empty: nothing."""
    sample: tuple[str, ...] = ()
    """Flags of sample.py."""
    prompt: Literal["", "described", "found", "trigger", "trigger_found"] = ""
    """What the prompt says of the person: nothing, all that words can, what the base found in the photos, the trigger
    word, or both of these."""
    is_described: bool = True
    """Whether the target's words begin as what the base found in the photos."""
    strangers_reference: bool = False
    """Whether somebody else's photo is the reference frame."""
    has_pasted_heads: bool = False
    """Whether it also trains on the dancers' clips with the target's heads."""
    trained_by: str = ""
    """Another arm, whose training this one renders."""


BASE = ("--face_scale", "0")
NO_REFERENCES = ("--own_references", "0")
ONE_REFERENCE = ("--own_references", "1")
# Without a face, every sample is one of the null face, and learns its own pixels.
PLAIN = (
    "--face_dropout 1 --text_dropout 0 --both_dropout 0 --null_target data --target_tokens false --target_words 0 "
    "--reference_share 0 --body_share 0"
)

# What an adapter knows of faces in general is not to be forgotten. The words learn as fast as else.
GENTLY = ("--learning_rate", "1e-4", "--target_tokens_rate", "30")

# What the recipe of configs/demo.yaml consists of, each part off.
PARTS: dict[str, tuple[str, ...]] = {
    "references": ("--reference_share", "0"),
    "bodies": ("--body_share", "0"),
    "target_tokens": ("--target_tokens", "false"),
    "target_words": ("--target_words", "0"),
    "description": ("--target_words", "16"),
    "photo_views": ("--photo_framings", "[photo]", "--photo_sizes", "[1.0]"),
    "photo_noise": ("--photo_shift", "3"),
}
# Parts that need no words, or words that begin as nothing.
UNDESCRIBED = ("target_words", "description")
# What it might have besides, each part on.
EXTRAS: dict[str, tuple[str, ...]] = {
    "identity_loss": ("--identity_loss_weight", "0.1", "--identity_loss_encoder", "clip:toy_strong"),
}

_ALL = (
    ArmPlan("base", adapter="toy", sample=(*BASE, *NO_REFERENCES)),
    ArmPlan("base_described", adapter="toy", sample=(*BASE, *NO_REFERENCES), prompt="described"),
    ArmPlan("base_described_reference", adapter="toy", sample=(*BASE, *ONE_REFERENCE), prompt="described"),
    ArmPlan("base_found_reference", adapter="toy", sample=(*BASE, *ONE_REFERENCE), prompt="found"),
    ArmPlan("base_reference", adapter="toy", sample=(*BASE, *ONE_REFERENCE)),
    ArmPlan("base_strangers_reference", adapter="toy", sample=BASE, strangers_reference=True),
    ArmPlan("zero_shot_weak", adapter="toy"),
    ArmPlan("zero_shot_strong", encoder="strong", adapter="toy_strong"),
    ArmPlan("naive", train=("--pairing", "constant")),
    ArmPlan(
        "plain_lora",
        train=(*PLAIN.split(), "--photo_caption", f"a portrait of {TRIGGER}"),
        sample=NO_REFERENCES,
        prompt="trigger",
        is_described=False,
    ),
    ArmPlan("plain_lora_found", trained_by="plain_lora", sample=NO_REFERENCES, prompt="trigger_found"),
    ArmPlan("plain_lora_found_reference", trained_by="plain_lora", sample=ONE_REFERENCE, prompt="trigger_found"),
    ArmPlan("ours_from_nothing", train=("--pairing", "own")),
    ArmPlan("ours_strangers_reference", trained_by="ours_from_nothing", strangers_reference=True),
    ArmPlan("ours_without_reference", trained_by="ours_from_nothing", sample=NO_REFERENCES),
    ArmPlan("ours_from_nothing_strong", train=("--pairing", "own"), encoder="strong"),
    ArmPlan("ours_from_stage1", train=GENTLY, adapter="toy"),
    ArmPlan("ours_from_stage1_strong", train=GENTLY, encoder="strong", adapter="toy_strong"),
    *(ArmPlan(f"without_{part}", train=off, is_described=part not in UNDESCRIBED) for part, off in PARTS.items()),
    ArmPlan("with_pasted_heads", train=("--pairing", "own"), has_pasted_heads=True),
    *(ArmPlan(f"with_{part}", train=on) for part, on in EXTRAS.items()),
)
ARMS: dict[str, ArmPlan] = {arm.name: arm for arm in _ALL}
