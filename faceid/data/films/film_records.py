"""Record the result for each film, which makes its clips count, and summarise all films.

A record (`films/<film>.json`) is written after a film's clips. It names what they were made from, so that a second run
keeps them. It also says what was left out and why. At the end, once the new clips are known to be whole, clips of ours
that no record names are removed. Otherwise anyone who lists the folder would train on them.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faceid.data.body.sidecars import is_of_another_clip, sidecars_of
from faceid.data.clip_selection import LeftOut
from faceid.data.clips.captions import ENDING as CAPTION_ENDING
from faceid.data.dancers import DANCERS_NAME, dancer_of, read_dancers
from faceid.data.films.film_plan import Film
from faceid.data.films.split_settings import SplitSettings
from faceid.data.made_files import is_as_made, say_replaced
from faceid.data.waiting import (
    WAITING_NAME,
    discard_waiting,
    record_in,
    refuse_changed,
    refuse_other_settings,
    take_places,
)
from faceid.errors import DataError
from faceid.files.documents import find_json
from faceid.files.outputs import is_ours, remove_output, write_bookkeeping, write_output
from faceid.files.provenance import sha256_json, sizes_and_times, write_provenance
from faceid.files.records import recorded
from faceid.files.writing import json_text

log = logging.getLogger(__name__)

# Increased when the clips of a film change for the same film and settings.
RECIPE = 4
REPLACED = "a clip of this name was made here, and another file has its name: not counted"
RECORDS_NAME, SKIPPED_NAME, SUMMARY_NAME = "films", "skipped.csv", "split.json"
CLIP_NAME = re.compile(r"(.+_clip_\d{3,})\..+")
# Endings of a clip's file and of the files that this command writes beside it.
REPLACED_ENDINGS = (".mp4", ".joints.json", ".heads.json")


def record_path(output_dir: Path, film: Film) -> Path:
    """Where a film's record is."""
    return output_dir / RECORDS_NAME / f"{film.stem}.json"


def newest_record(output_dir: Path, film: Film, settings: SplitSettings) -> dict[str, Any] | None:
    """A film's record, if film and settings are the same and its clips are in place or waiting."""

    def is_current(place: Path, record: dict[str, Any]) -> bool:
        is_same = record.get("inputs") == inputs_of(film, settings)
        return is_same and all((place / f"{clip['name']}.mp4").is_file() for clip in record["clips"])

    return record_in(output_dir, f"{RECORDS_NAME}/{film.stem}.json", is_current)


def chosen_for(film: Film, settings: SplitSettings) -> dict[str, Any]:
    """The settings that decide a film's clips, by their flags."""
    height, width = settings.size_hw
    keypoints_dir = "none" if film.keypoints is None else "given"
    return {**asdict(settings), "height": height, "width": width, "keypoints_dir": keypoints_dir}


def inputs_of(film: Film, settings: SplitSettings) -> str:
    """A hash of what decides a film's clips. A film's size and time stand for its content, because films are large."""
    files = [file for file in (film.path, film.keypoints) if file is not None]
    return sha256_json([RECIPE, chosen_for(film, settings), film.dancer, sizes_and_times(files)])


def finish_split(
    output_dir: Path, records: list[dict[str, Any]], left_out: list[LeftOut], settings: SplitSettings
) -> dict[str, Any]:
    """Put the new clips in place, remove ours that no record names, and write what was left out and who dances.

    The summary is written last, and returned. One process does this at a time.
    Raises: DataError when there is no clip. The folder's earlier content is then unchanged.
    """
    skipped = [(record["film"], entry) for record in records for entry in record["skipped"]]
    clips = [(clip["name"], record) for record in records for clip in record["clips"]]
    counts = Counter(entry["kind"] for _, entry in skipped)
    for kind, count in sorted(counts.items()):
        log.warning("%d left out: %s", count, kind)
    if not clips:
        discard_waiting(output_dir)
        example = skipped[0]
        raise DataError(f"{output_dir}: no clip came of {len(records)} films; {example[0]}: {example[1]['reason']}")
    waiting = _records_in(output_dir / WAITING_NAME).values()
    take_places(output_dir, [name for record in waiting for name in _files_of(record)], RECORDS_NAME)
    _remove_strangers(output_dir, records)
    replaced = {name for name, record in clips if not _is_as_made(output_dir, name, record)}
    say_replaced(output_dir, [f"{name}.mp4" for name in replaced], "split_clips.py", "clips")
    rows = [("film", "start_s", "reason"), *((film, entry["start_s"], entry["reason"]) for film, entry in skipped)]
    rows += [(entry.name, "", entry.reason) for entry in left_out]
    rows += [(f"{name}.mp4", "", REPLACED) for name in sorted(replaced)]
    write_bookkeeping(output_dir / SKIPPED_NAME, _csv(rows))
    _write_dancers(
        output_dir / DANCERS_NAME,
        {
            name: record["dancer"]
            for name, record in clips
            if name not in replaced and dancer_of(name, {}) != record["dancer"]
        },
    )
    summary = {
        "settings": asdict(settings),
        "films": len(records),
        "clips": len(clips) - len(replaced),
        "replaced": sorted(replaced),
        "skipped": dict(sorted(counts.items())),
        "left_out": dict(sorted(Counter(entry.kind for entry in left_out).items())),
    }
    write_provenance(output_dir, {"records": sha256_json(records)})
    write_bookkeeping(output_dir / SUMMARY_NAME, json_text(summary))
    log.info(
        "%s: %d clips of %d films; what was left out and why: %s",
        output_dir,
        summary["clips"],
        len(records),
        SKIPPED_NAME,
    )
    return summary


def refuse_losing_films(output_dir: Path, films: Sequence[Film], settings: SplitSettings, replace: bool) -> None:
    """Refuse, before any work, to lose clips. replace: whether the user said that the folder's clips may go.

    Raises: DataError when the folder holds clips that this run would remove: their films take no part in it, or they
    have other settings. Raises OutputError when a file that it would replace or remove is not as we wrote it.
    """
    by_name = {film.stem: film for film in films}
    held = {path.stem: record for path, record in _records_in(output_dir).items()}
    others = sorted(held.keys() - by_name.keys())
    if others and not replace:
        raise DataError(
            f"output_dir={output_dir}: holds clips of {len(others)} films that do not take part in this run, such as "
            f"{others[0]}, and would lose them; name a new folder, or give --replace to remove them"
        )
    for name, record in held.items():
        if name in by_name and record["clips"] and not replace:
            refuse_other_settings(output_dir, "clips", record["settings"], chosen_for(by_name[name], settings))
    _refuse_changed_clips(
        output_dir, {film.stem for film in films if newest_record(output_dir, film, settings) is None}, set(others)
    )


def _refuse_changed_clips(output_dir: Path, anew: set[str], others: set[str]) -> None:
    """anew, others: names of films whose clips are made again, and of those whose clips are removed."""
    ours = recorded(output_dir)
    asked, captions = [], []
    for file in sorted(output_dir.iterdir()):
        match = CLIP_NAME.fullmatch(file.name)
        film = match.group(1).rpartition("_clip_")[0] if match else ""
        if match and file.name.removeprefix(match.group(1)) in REPLACED_ENDINGS:
            if film in anew or (film in others and file.name in ours):
                asked.append(file)
        elif film in anew and file.suffix == CAPTION_ENDING:
            captions.append(file)
    refuse_changed(asked, "its film is cut anew or takes no part any more")
    if captions:
        log.warning(
            "%s: %d captions lie beside clips that are cut anew, such as %s; see whether they are still true",
            output_dir,
            len(captions),
            captions[0].name,
        )


def _is_as_made(output_dir: Path, name: str, record: dict[str, Any]) -> bool:
    made = next(clip.get("made") for clip in record["clips"] if clip["name"] == name)
    about = output_dir / RECORDS_NAME / f"{Path(record['film']).stem}.json"
    return is_as_made(output_dir / f"{name}.mp4", made, about)


def _files_of(record: dict[str, Any]) -> list[str]:
    """The files that a film's run wrote: its clips, and the files beside them."""
    has_sidecars = record["settings"]["keypoints_dir"] == "given"
    clips = [Path(f"{clip['name']}.mp4") for clip in record["clips"]]
    return [file.name for clip in clips for file in (clip, *(sidecars_of(clip) if has_sidecars else ()))]


def _remove_strangers(output_dir: Path, records: list[dict[str, Any]]) -> None:
    films = {Path(record["film"]).stem for record in records}
    for path in _records_in(output_dir):
        if path.stem not in films:
            path.unlink()
    kept = {name for record in records for name in _files_of(record)}
    names = {Path(name).stem for name in kept if name.endswith(".mp4")}
    ours = recorded(output_dir)
    for file in sorted(output_dir.iterdir()):
        match = CLIP_NAME.fullmatch(file.name)
        if not match or file.name in kept or not file.is_file():
            continue
        if match.group(1) not in names:
            # A file with such a name that no record names is the user's own, or older than the records.
            if file.name in ours:
                remove_output(file)
            else:
                log.warning("%s: not made here, and left where it is: whoever lists the folder finds it", file)
        elif file.name in ours and is_of_another_clip(file, output_dir / f"{match.group(1)}.mp4"):
            # The file belongs to an earlier cut. A file that was estimated from the present clip stays beside it.
            remove_output(file)


def _write_dancers(path: Path, dancers: dict[str, str]) -> None:
    """Write who dances in clips whose names do not say it. A user's own table is left unchanged."""
    if path.exists() and not is_ours(path):
        try:
            table = read_dancers(path)
        except DataError as error:
            log.warning("%s; left as it is, and read by every later command", error)
            return
        lacking = sorted(dancers.keys() - table.keys())
        if lacking:
            log.warning(
                "%s: not as it was written here, and left as it is; it lacks %d clips, such as %s (dancer %s)",
                path,
                len(lacking),
                lacking[0],
                dancers[lacking[0]],
            )
    elif dancers:
        write_output(path, _csv([("clip", "dancer"), *dancers.items()]))
    else:
        remove_output(path)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue()


def _records_in(output_dir: Path) -> dict[Path, dict[str, Any]]:
    """Our records of films by their file, recognised by their content. A user's file there is no record."""
    found = {}
    for path in sorted((output_dir / RECORDS_NAME).glob("*.json")):
        said = find_json(path)
        if said is not None and {"film", "inputs", "settings", "clips", "skipped"} <= said.keys():
            found[path] = said
    return found
