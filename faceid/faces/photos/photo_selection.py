"""Decide which photos count and how much.

The steps are: one face per photo, near-duplicates, two people, outliers, weights. Every photo that does not count has a
stated reason, so nothing is dropped silently. The order of the steps matters: duplicates would pull the centre, and a
second person would look like a set of outliers.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from faceid.errors import DataError
from faceid.faces.aggregate import aggregate
from faceid.faces.photos.copies import are_copies
from faceid.faces.photos.photo_faces import DOUBTFUL_SCORE, Candidate, Photo

FEWEST_PHOTOS, MOST_PHOTOS = 3, 20

# Mean difference between red, green and blue. A grey photo saved as JPEG has 0 to 2, a pale face 20 and more.
GREY_LEVELS = 4.0
# Detection scores this near to each other count as equal.
AS_SURE = 0.1
DUPLICATE_COSINE, DUPLICATE_CORRELATION = 0.98, 0.95
# Two groups alone prove little: any encoder splits one person's photos by light or glasses. The groups must also be far
# apart. Published encoders, not centred, give two people 0.5 to 0.75. The photos of one person lie above 0.8.
TWO_PEOPLE_SILHOUETTE, TWO_PEOPLE_COSINE = 0.25, 0.8
SMALLEST_FACE_PX, BLURRED_SHARPNESS = 24.0, 10.0
LARGEST_REJECTED_SHARE = 0.4

# Sharpness of the 10th and 90th percentile over 50 news portraits. It is used when a set is too small for its own.
USUAL_SHARPNESS = (50.0, 400.0)
# Sets of similar sharpness are not stretched to the full range. The range is at least a factor of 2.
LEAST_LOG_RANGE = math.log(2.0)


def usable(photos: list[Photo]) -> list[Photo]:
    """The photos not dropped so far."""
    return [photo for photo in photos if photo.dropped is None]


def choose_faces(photos: list[Photo]) -> None:
    """Settle on one face per photo. Of several faces, it is the one that agrees with the photos of one face.

    Without at least two photos of one face, it is the largest of those that the detector is surest of. The largest
    alone would not do, because a shirt's pattern may be larger than any face. Either way the photo gets a note.
    """
    single = [photo for photo in usable(photos) if len(photo.candidates) == 1]
    for photo in single:
        photo.chosen = photo.candidates[0]
    centre = None
    if len(single) >= 2:
        centre = aggregate(torch.stack([photo.embedding for photo in single]), None, "median")
    for photo in usable(photos):
        if photo.chosen is not None:
            continue
        count = len(photo.candidates)
        if centre is None:
            photo.chosen = surest(photo.candidates)
            largest = (
                "the largest" if photo.chosen is photo.candidates[0] else "the largest sure one (not the largest box)"
            )
            photo.notes.append(f"{count} faces; took {largest}, for lack of photos with one face to compare with")
        else:
            best = int(np.argmax([float(candidate.unit_embedding @ centre) for candidate in photo.candidates]))
            photo.chosen = photo.candidates[best]
            size = "the largest" if best == 0 else "not the largest"
            photo.notes.append(f"{count} faces; took the one that agrees best with the other photos ({size})")


def surest(candidates: list[Candidate]) -> Candidate:
    """The largest face among those whose detection score is about the best. candidates: largest first."""
    best = max(candidate.face.score for candidate in candidates)
    return next(candidate for candidate in candidates if candidate.face.score >= best - AS_SURE)


def score_quality(photos: list[Photo]) -> None:
    """Set sharpness, size and detection of each usable photo, 0..1."""
    counted = usable(photos)
    logs = {photo.name: math.log(max(photo.face.sharpness, 1e-3)) for photo in counted}
    low, high = (math.log(value) for value in USUAL_SHARPNESS)
    if len(counted) >= 5:
        low, high = (float(np.percentile(list(logs.values()), share)) for share in (10, 90))
        if high - low < LEAST_LOG_RANGE:
            low = high - LEAST_LOG_RANGE
    for photo in counted:
        photo.quality["sharpness"] = float(np.clip((logs[photo.name] - low) / (high - low), 0.05, 1))
        photo.quality["size"] = float(np.clip(photo.face.size_px / 96, 0.1, 1))
        photo.quality["detection"] = float(np.clip((photo.face.face.score - 0.5) / 0.5, 0, 1))


def drop_duplicates(photos: list[Photo]) -> None:
    """Keep the best of photos that show one picture, however it was saved, cut, brightened, turned or mirrored.

    Photos are one picture when embeddings and crops are nearly equal, or when the face of one lies on the other's
    (`copies`). The second test is needed because an encoder may see a mirrored or grey copy as another picture.
    """
    kept: list[Photo] = []
    # Of equally good photos the larger comes first. A small copy has lost detail that no score counts, a grey one
    # colours.
    for photo in sorted(usable(photos), key=lambda p: (_is_grey(p), -round(_merit(p), 1), -p.face.size_px, p.name)):
        for other in kept:
            how = _copied(photo, other)
            if how is not None:
                photo.dropped = f"nearly the same picture as {other.name}{how}, which is the better one"
                break
        else:
            kept.append(photo)


def refuse_two_people(photos: list[Photo]) -> None:
    """Raises: DataError with both lists when the embeddings fall into two separate groups of 3 photos or more."""
    counted = usable(photos)
    if len(counted) < 6:
        return
    embeddings = torch.stack([photo.embedding for photo in counted]).double()
    first = _two_means(embeddings)
    if min(int(first.sum()), int((~first).sum())) < FEWEST_PHOTOS:
        return
    between = float((embeddings[first] @ embeddings[~first].T).mean())
    if between >= TWO_PEOPLE_COSINE or _silhouette(embeddings, first) <= TWO_PEOPLE_SILHOUETTE:
        return
    groups = [", ".join(p.name for p, is_in in zip(counted, mask, strict=True) if is_in) for mask in (first, ~first)]
    raise DataError(
        f"{counted[0].path.parent}: two different people? One group: {groups[0]}. The other: {groups[1]}. "
        "Leave one of them out, or use --check_one_person false if all show the same person"
    )


def drop_poor(photos: list[Photo]) -> None:
    """Set each photo's agreement. Drop outliers, tiny, blurred and doubtful faces, worst kind first.

    At most 40 % of the photos are dropped, and three always stay. Poor photos beyond that stay, with a note.
    """
    counted = usable(photos)
    _score_agreement(counted)
    faults = sorted((fault for photo in counted for fault in _faults(photo)), key=lambda fault: fault[:2])
    allowed = min(int(LARGEST_REJECTED_SHARE * len(counted)), max(len(counted) - FEWEST_PHOTOS, 0))
    dropped = 0
    for _, _, photo, reason in faults:
        if photo.dropped is not None:
            continue
        if dropped < allowed:
            photo.dropped = reason
            dropped += 1
        else:
            photo.notes.append(f"kept, to keep enough photos, although: {reason}")


def set_weights(photos: list[Photo], alike: bool) -> None:
    """Give each usable photo its share (sum 1), by quality and agreement, or all `alike`."""
    counted = usable(photos)
    raw = [1.0 if alike else _weight(photo) for photo in counted]
    for photo, weight in zip(counted, raw, strict=True):
        photo.weight = weight / sum(raw)


def _is_grey(photo: Photo) -> bool:
    return float(np.ptp(photo.face.crop, axis=-1).mean()) < GREY_LEVELS


def _copied(photo: Photo, other: Photo) -> str | None:
    """How a photo shows the picture of another one, in words for a message; None when it does not."""
    alike = float(photo.embedding @ other.embedding) > DUPLICATE_COSINE
    if alike and float(photo.face.miniature @ other.face.miniature) > DUPLICATE_CORRELATION:
        return ""
    if photo.compared is None or other.compared is None:
        return None
    how = are_copies(other.compared, other.face.face.box_xyxy, photo.compared)
    return f" ({how})" if how else how


def _merit(photo: Photo) -> float:
    # The floor keeps faces with no detection score comparable, and prevents weights that are all 0.
    return photo.quality["sharpness"] * photo.quality["size"] * max(photo.quality["detection"], 0.05)


def _weight(photo: Photo) -> float:
    quality = photo.quality
    clear = math.sqrt(quality["sharpness"] * quality["size"]) * max(quality["detection"], 0.05)
    return clear * (0.2 + 0.8 * quality["agreement"])


def _score_agreement(counted: list[Photo]) -> None:
    """Compare the cosine to the geometric median with the spread of the set (median - 2.5 robust sigmas).

    Every photo counts alike here, so half of them would have to be wrong to move the centre. When they counted by
    merit, two sharp photos of somebody else outweighed eight dull ones of the person.
    """
    embeddings = torch.stack([photo.embedding for photo in counted])
    centre = aggregate(embeddings, None, "median")
    cosines = (embeddings.double() @ centre.double()).numpy()
    spread = max(float(np.median(np.abs(cosines - np.median(cosines)))), 0.02)
    lowest = float(np.median(cosines)) - 2.5 * 1.4826 * spread
    for photo, cosine in zip(counted, cosines, strict=True):
        photo.cosine = float(cosine)
        photo.quality["agreement"] = float(np.clip((cosine - lowest) / (1 - lowest), 0, 1))


def _faults(photo: Photo) -> list[tuple[int, float, Photo, str]]:
    """(kind, badness order, photo, reason). The wrong face does most harm, so it comes first."""
    found: list[tuple[int, float, Photo, str]] = []
    face = photo.face
    if photo.quality["agreement"] == 0 and photo.cosine is not None:
        found.append((0, photo.cosine, photo, f"does not look like the other photos (cosine {photo.cosine:.2f})"))
    if face.size_px < SMALLEST_FACE_PX:
        found.append(
            (1, face.size_px, photo, f"face of only {face.size_px:.0f} px; needs {SMALLEST_FACE_PX:.0f} or more")
        )
    if face.sharpness < BLURRED_SHARPNESS:
        found.append(
            (2, face.sharpness, photo, f"blurred (sharpness {face.sharpness:.1f}, needs {BLURRED_SHARPNESS:.0f})")
        )
    if face.face.score < DOUBTFUL_SCORE:
        found.append((3, face.face.score, photo, f"hardly a face (detection score {face.face.score:.2f})"))
    return found


def _two_means(embeddings: torch.Tensor) -> torch.Tensor:
    """Split unit embeddings [N, D] in two by cosine: bool [N], true for the first photo's group.

    It starts from the two least alike, so the result is the same every time.
    """
    cosines = embeddings @ embeddings.T
    seeds = divmod(int(cosines.argmin()), len(cosines))
    centres = embeddings[list(seeds)]
    first = torch.zeros(len(embeddings), dtype=torch.bool)
    for _ in range(50):
        following = (embeddings @ centres[0]) >= (embeddings @ centres[1])
        if bool((following == first).all()) or bool(following.all()) or not bool(following.any()):
            break
        first = following
        centres = torch.stack([embeddings[first].mean(0), embeddings[~first].mean(0)])
        centres = torch.nn.functional.normalize(centres, dim=1)
    return first if bool(first[0]) else ~first


def _silhouette(embeddings: torch.Tensor, first: torch.Tensor) -> float:
    """Mean silhouette of a split, -1..1, with cosine distances."""
    distances = (1 - embeddings @ embeddings.T).clamp_min(0)
    values = []
    for index in range(len(embeddings)):
        same = first == first[index]
        own = distances[index][same].sum() / max(int(same.sum()) - 1, 1)
        other = distances[index][~same].mean()
        values.append(float((other - own) / torch.maximum(own, other).clamp_min(1e-12)))
    return sum(values) / len(values)
