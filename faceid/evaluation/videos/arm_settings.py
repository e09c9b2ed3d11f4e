"""Settings of the folders that are an evaluation's arms, and of each arm's part.

Field names are flag names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.errors import ConfigError

# Flags that give a part to one of the arms.
ROLES = (
    "base",
    "ours",
    "start",
    "heldout_people",
    "training_people",
    "wrong",
    "wrong_start",
    "naive",
    "plain_lora",
    "reference_only",
    "from_base",
    "real",
    "unadapted_base",
)


@dataclass(frozen=True)
class ArmSettings:
    """The arms, and the part of each."""

    renders: list[str]
    """Arms as name=folder, in the order of the report: '[ours=out/a, base=out/b]'. A name twice is one arm of both."""
    base: str | None = None
    """Arm of the base model: the adapter at face_scale 0."""
    ours: str | None = None
    """Arm of the recipe that is judged."""
    start: str | None = None
    """Arm rendered with the adapter that training began with (--init_adapter), same people and poses as --ours."""
    heldout_people: str | None = None
    """Arm of people who were not trained on."""
    training_people: str | None = None
    """Arm of people who were trained on, in new poses."""
    wrong: str | None = None
    """Arm rendered with embeddings of other people than the one the adapter was fine-tuned on."""
    wrong_start: str | None = None
    """Arm of the same people and poses as --wrong, rendered with the adapter that training began with."""
    naive: str | None = None
    """Arm of the control recipe (pairing: constant)."""
    plain_lora: str | None = None
    """Arm of a LoRA without a face path, trained on the same photos and clips."""
    reference_only: str | None = None
    """Arm of the base with a photo as reference frame, and no adapter."""
    from_base: str | None = None
    """Arm of the recipe trained from the base alone, without an adapter to begin with. Often the same as --ours."""
    real: str | None = None
    """Arm of real clips of the same people, a folder of clips. It shows what a perfect render would score."""
    unadapted_base: str | None = None
    """Arm rendered without any adapter loaded, compared byte by byte with --base."""
    target: str | None = None
    """Person the adapter was fine-tuned on: a folder of references_dir."""
    drivers_csv: Path | None = None
    """clip,dancer: who dances in the driving clips. Default: read from AIST names."""

    def __post_init__(self) -> None:
        arms = self.arm_folders()
        for role, arm in self.roles().items():
            if arm not in arms:
                raise ConfigError(f"{role}={arm}: not an arm; --renders names {', '.join(arms)}")

    def arm_folders(self) -> dict[str, list[Path]]:
        """Folders by arm, in the given order. Raises: ConfigError for a word that is not name=folder."""
        folders: dict[str, list[Path]] = {}
        for entry in self.renders:
            name, is_there, folder = entry.partition("=")
            if not is_there or not name.strip() or not folder.strip():
                raise ConfigError(f"renders: {entry!r} is not name=folder; write --renders '[ours=out/a, base=out/b]'")
            folders.setdefault(name.strip(), []).append(Path(folder.strip()))
        if not folders:
            raise ConfigError("renders: is empty; write --renders '[ours=out/a, base=out/b]'")
        return folders

    def roles(self) -> dict[str, str]:
        """Arm by role, for the roles that were given."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

    @property
    def judged(self) -> str | None:
        """The arm that comparisons are about: ours, else that of held-out people."""
        return self.ours or self.heldout_people

    def unused(self, is_table_needed: bool) -> Iterator[Reason]:
        """Options that change nothing. is_table_needed: drivers_csv says more than the clips' names do."""
        if self.judged is None:
            for name in ("base", "start", "naive"):
                if name != "base" or self.unadapted_base is None:
                    yield name, "without --ours or --heldout_people, which it is compared with"
            if self.wrong is None:
                yield "target", "but its place in the report without --ours, --heldout_people or --wrong"
        if self.base is None:
            yield "unadapted_base", "without --base, which it is compared with"
        if self.judged is None and self.real is None:
            yield "drivers_csv", "without --ours, --heldout_people or --real"
        elif not is_table_needed:
            yield "drivers_csv", "here: of no rendered clip it says more than its name does"
