"""Make the report's first table.

It shows the headlines of summary.json in words, by the primary recogniser and the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faceid.evaluation.report.results import Results
from faceid.evaluation.report.tables import NumberCell, number_cell

SUMMARY_TITLES = {
    "identity_rank1_heldout_poses": "Rank-1, people trained on, new poses",
    "identity_rank1_heldout_people": "Rank-1, people not trained on",
    "identity_auc_heldout_people": "ROC-AUC, people not trained on",
    "target_rank1": "Rank-1 of the target, judged arm",
    "start_rank1": "Rank-1 of the adapter that training began with",
    "training_gain_similarity": "Similarity gained by training, over the adapter it began with",
    "target_rank1_from_base": "Rank-1 of the target, learnt from the base alone",
    "target_similarity_from_base": "Similarity of the target, learnt from the base alone",
    "target_similarity_zero_shot": "Similarity of the target, by the adapter that training began with",
    "target_similarity_real": "Similarity of the target's real clips (ceiling)",
    "target_pose_error_ratio": "Pose error over the base's, the target learnt from the base alone",
    "plain_lora_rank1": "Rank-1 of a LoRA without a face path",
    "reference_only_rank1": "Rank-1 of the base with a photo as reference frame",
    "base_rank1": "Rank-1 of the base (no face), as the people of the judged arm",
    "naive_recipe_rank1": "Rank-1 of the control recipe",
    "real_rank1": "Rank-1 of real clips (ceiling)",
    "chance_rank1": "Rank-1 by chance",
    "wrong_identity_follows_embedding": "Other people's embeddings: rank-1 of the given one",
    "wrong_identity_nearest_is_target": "Other people's embeddings: looks like the target",
    "wrong_identity_nearest_is_target_before": "The same, by the adapter that training began with",
    "face_scale_spearman": "face_scale up to 1.25 against similarity, Spearman",
    "face_scale_zero_equals_base": "face_scale 0 is the base, byte for byte",
    "pose_error_ratio_to_base": "Pose error over the base's, judged arm and people not trained on",
    "pose_error_ratio_ours": "Pose error over the base's, judged arm alone",
    "driver_leak": "Driver leak, against the base, judged arm",
    "driver_leak_within_person": "Driver leak, within a person, judged arm and people not trained on",
    "similarity_between_base_and_real": "Similarity between base (0) and real clips (1), people shown in both",
}
# These figures do not depend on the recogniser.
_SEEN_BY_NONE = ("pose_error_ratio_to_base", "pose_error_ratio_ours", "target_pose_error_ratio")
# Arms that are looked at side by side, and what each is, in a sentence about the person.
LEADING_ARMS = {
    "base": "the base alone",
    "naive": "the naive recipe",
    "plain_lora": "a LoRA without a face path",
    "reference_only": "the base with a photo as reference",
    "start": "an adapter that was never trained on this person",
    "ours": "the trained adapter",
    "real": "real clips",
}


@dataclass(frozen=True)
class Headline:
    """One row: a number by every recogniser, the primary first, or one number that depends on no recogniser."""

    title: str
    cells: list[NumberCell]


def headlines(summary: dict[str, Any]) -> list[Headline]:
    """The rows for which some recogniser has a number. summary: from summary.summarise."""
    by_recogniser = list(summary["by_recogniser"].values())
    rows = []
    for key, title in SUMMARY_TITLES.items():
        sources = by_recogniser if key in by_recogniser[0] and key not in _SEEN_BY_NONE else [summary]
        if any(source[key] is not None for source in sources):
            rows.append(Headline(title, [_cell(source, key) for source in sources]))
    return rows


def leading_arms(results: Results) -> dict[str, str]:
    """Arms that are looked at first, by name, and what each is in words. An arm of two parts counts once."""
    roles = results.compared.roles
    given = ((getattr(roles, role), words) for role, words in LEADING_ARMS.items())
    found: dict[str, str] = {}
    for arm, words in given:
        if arm is not None:
            found.setdefault(arm, words)
    return found


def verdicts(results: Results, person: str) -> list[str]:
    """One sentence for each of the leading arms: in how many videos each recogniser takes it for this person."""
    sentences = []
    for arm, words in leading_arms(results).items():
        counts = []
        for name, by_arm in results.videos.items():
            videos = [video for video in by_arm[arm] if video.identity == person]
            if videos:
                known = sum(video.rank == 1 for video in videos)
                counts.append(f"by {name.split(':')[0]} in {known} of {len(videos)} videos")
        if counts:
            sentences.append(f"{words[0].upper()}{words[1:]}: recognised as {person} {', '.join(counts)}.")
    return sentences


def ceilings(results: Results) -> dict[str, NumberCell | None]:
    """How often each recogniser knows the people of real clips; None where no real clips were given."""
    return {
        name: _cell(found, "real_rank1") if found["real_rank1"] is not None else None
        for name, found in results.summary["by_recogniser"].items()
    }


def _cell(found: dict[str, Any], key: str) -> NumberCell:
    value = found[key]
    if isinstance(value, bool):
        return NumberCell("yes" if value else "no", "", False)
    return number_cell(float("nan") if value is None else value, found["intervals"].get(key))
