"""Decide which films take part, who dances in them, and which clips they become."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from pathlib import Path

from faceid.data.aist import parse_aist_name
from faceid.data.body.keypoints import find_keypoints
from faceid.data.clip_selection import LeftOut, list_no_files, select
from faceid.data.dancers import dancer_of, dancers_beside, why_left_out
from faceid.data.films.split_settings import SplitSettings
from faceid.data.selection_settings import SelectionSettings
from faceid.data.video_files import list_videos
from faceid.errors import ConfigError, DataError
from faceid.files.given_paths import why_no_folder


@plain_dataclass(frozen=True)
class Film:
    """One film. stem: its name. dancer: the person in it."""

    path: Path
    stem: str
    dancer: str
    genre: str | None
    keypoints: Path | None


def find_films(
    videos_dir: Path, keypoints_dir: Path | None, settings: SplitSettings, selection: SelectionSettings | None = None
) -> tuple[list[Film], list[LeftOut]]:
    """The films that take part, by name, and the others with reasons. Raises: DataError when there are none."""
    if keypoints_dir is not None and (reason := why_no_folder(keypoints_dir)) is not None:
        raise DataError(f"keypoints_dir={keypoints_dir}: {reason}")
    if keypoints_dir is None and settings.crop != "none":
        raise ConfigError(
            f"crop={settings.crop}: needs --keypoints_dir to know where the dancer is; or use --crop none"
        )
    videos = list_videos(videos_dir, "videos_dir")
    table = dancers_beside(videos_dir, {video.stem for video in videos})
    films, left_out = [], list_no_files(videos_dir)
    seen: set[str] = set()
    for path in videos:
        reason, kind = why_left_out(path.stem, table), "with several people"
        found = find_keypoints(keypoints_dir, path.stem) if keypoints_dir else None
        if reason is None and keypoints_dir and found is None:
            reason, kind = f"no keypoints in {keypoints_dir.name}", "without keypoints"
        if reason is None and path.stem in seen:
            reason, kind = "another film has the same name but for its ending", "of the same name"
        if reason is not None:
            left_out.append(LeftOut(path.name, reason, kind))
            continue
        seen.add(path.stem)
        name = parse_aist_name(path.stem)
        dancer = dancer_of(path.stem, table) or path.stem
        films.append(Film(path, path.stem, dancer, name.genre if name else None, found))
    chosen, not_chosen = select(films, selection or SelectionSettings())
    if not chosen:
        example = (left_out + not_chosen)[0]
        raise DataError(f"videos_dir={videos_dir}: no film can be used; {example.name}: {example.reason}")
    return chosen, left_out + not_chosen
