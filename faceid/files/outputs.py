"""Decide what a command may replace and delete: only files that it can prove it wrote itself.

The proof is the record beside the files (`faceid.files.records`). A file whose bytes are not in the record belongs to
somebody else. It is refused, by name, before any work begins. A folder carries its kind (`.faceid/folder.json`), so
that no command writes into another's folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from faceid.errors import OutputError
from faceid.files.documents import find_json
from faceid.files.placing import (
    STAYS,
    close_or_say,
    finish,
    free_name,
    has_to_stay,
    names_in,
    put_inside,
    strangers_in,
)
from faceid.files.records import is_recorded, record, sha256_file
from faceid.files.writing import (
    FOLDER_NAME,
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    RECORDS_NAME,
    WHOLE,
    abandoned,
    exchange,
    fsync_file,
    fsync_folder,
    fsync_tree,
    is_owners_alone,
    is_private,
    is_temporary,
    make_parents,
    settle_modes,
    sweep,
    temporary_beside,
    told,
    was_whole,
    write_atomic,
    write_json,
)
from faceid.processes import process_mark

log = logging.getLogger(__name__)

# The content of folders, in words, for kinds that more than one room has to know.
HUB_FOLDER, RUN_FOLDER, BATCH_FOLDER = "a face adapter for the hub", "a training run", "a batch of renders"
# A file beside FOLDER_NAME in a folder that was moved away for a moment. A folder moved by hand does not have it.
_REPLACED_NAME = "replaced.json"
_SHOWN = 3


def claim_folder(
    folder: Path,
    kind: str,
    inputs: Sequence[Path] = (),
    private: bool = False,
    beside: Sequence[str] = (),
    key: str = "output_dir",
    is_known: bool = False,
) -> None:
    """Make `folder` a place to write one kind of result into, bit by bit, over any number of runs.

    kind: what it will hold, in words (`clips`, `a run`). inputs: folders that are read; `folder` may be none of them.
    private: whether it shows faces, so that only its owner may look in. beside: names that may lie in it before the
    first run. key: the flag that gave it. is_known: whether the caller knows the folder for one of ours, because those
    made before 2026-12 have no mark. What is there already stays. `staged_file` says what may be replaced.
    Raises: OutputError when it is a file, is read from, cannot be written, or holds what another command wrote.
    """
    refuse_folder(folder, kind, inputs, beside, key, is_known)
    with told(folder):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / RECORDS_NAME / FOLDER_NAME
        if not mark.is_file():
            if private and (is_new or not names_in(folder)):
                close_or_say(folder, private)
            write_json(mark, {"kind": kind})
        sweep(folder)
        sweep(folder / RECORDS_NAME)
        # Checked here, not after hours of work. An old mark may lie on a disk that is read-only by now.
        probe = temporary_beside(folder / "probe")
        probe.touch()
        probe.unlink()


def refuse_folder(
    folder: Path,
    kind: str,
    inputs: Sequence[Path] = (),
    beside: Sequence[str] = (),
    key: str = "output_dir",
    is_known: bool = False,
) -> None:
    """Make only the refusals of `claim_folder`; write nothing. Raises: OutputError."""
    _refuse_other_kind(folder, kind, key)
    _refuse_read(folder, inputs, key, "folder")
    if kind_of(folder) is None and not is_known:
        strangers = [name for name in names_in(folder) if name not in beside]
        if strangers:
            raise OutputError(
                f"{key}={folder}: holds {_some(strangers)}, not written by this command; name an empty or a new folder"
            )
    _refuse_unwritable(folder, key)


def kind_of(folder: Path) -> str | None:
    """What a folder of ours holds, in words; None for any other folder."""
    said = find_json(folder / RECORDS_NAME / FOLDER_NAME) or {}
    return str(said["kind"]) if "kind" in said else None


def refuse_file(path: Path, inputs: Sequence[Path] = (), key: str = "output", within: str | None = None) -> None:
    """Report before the work that `path` cannot be written, or holds what this command did not write.

    inputs: files that are read; `path` may be none of them. within: the kind of the folder that the caller fills. In
    such a folder the caller may replace all that is ours. Elsewhere it may replace only what this program wrote.
    Raises: OutputError.
    """
    refuse_hidden(path, key)
    if path.is_dir():
        raise OutputError(f"{key}={path}: is a folder; name a file")
    _refuse_within_result(path, key)
    _refuse_read(path, inputs, key, "file")
    _refuse_foreign(path, key, by_this_program=within is None or kind_of(path.parent) != within)
    _refuse_unwritable(path.parent, key)


@contextmanager
def staged_file(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path` (same suffix); publish it under `path` when the block ends well.

    A file that is there already is replaced only when the record beside it says that we wrote it. private: whether the
    file shows faces. In a private folder every file is private.
    Raises: OutputError when the file there is somebody's, or when the disk is full or cannot be written. Nothing is
    changed then.
    """
    refuse_hidden(path)
    _refuse_foreign(path)
    with told(path):
        make_parents(path)
        sweep(path.parent)
        temporary = temporary_beside(path)
        # If its owner has closed an older result, the new one is closed too.
        private = private or is_private(path.parent) or is_owners_alone(path)
        try:
            if private:
                # The file is private also while it grows: a film takes minutes.
                temporary.touch(PRIVATE_FILE)
            yield temporary
            fsync_file(temporary)
            settle_modes(temporary, private)
            digest = sha256_file(temporary)
            # Checked once more, because the work may have taken hours.
            is_read = path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
            there = sha256_file(path) if is_read else None
            if there == digest:
                record(path.parent, [(path.name, digest)])
                if private:
                    settle_modes(path, private)
                return
            target = free_name(path) if _is_foreign(path, there) else path
            record(path.parent, [(target.name, digest)])
            temporary.replace(target)
            fsync_folder(path.parent)
            _say_where(path, target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_output(path: Path, content: bytes | str, private: bool = False) -> None:
    """Write a result that a user reads, as `staged_file` does."""
    with staged_file(path, private) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_bookkeeping(path: Path, content: bytes | str) -> None:
    """Write a file that a folder needs for later runs and that people may read: its settings, index or summary.

    The file must match the work, whatever stands there. A file that somebody edited is kept under another name, and a
    message says so.
    Raises: DiskError.
    """
    content = content.encode() if isinstance(content, str) else content
    with told(path):
        make_parents(path)
        digest = hashlib.sha256(content).hexdigest()
        if (path.exists() or path.is_symlink()) and _is_foreign(path):
            if path.is_file() and not path.is_symlink() and sha256_file(path) == digest:
                record(path.parent, [(path.name, digest)])
                return
            kept = free_name(path.with_name(f"{path.stem}.edited{path.suffix}"))
            if path.is_symlink() or path.is_dir():
                path.rename(kept)
            else:
                # The first name stays in place, so the file is never missing.
                shutil.copy2(path, kept)
            log.warning("%s: not as it was written here: kept as %s, and written anew", path, kept.name)
        record(path.parent, [(path.name, digest)])
        write_atomic(path, content)


def remove_output(path: Path) -> bool:
    """Remove a file if the record beside it says that we wrote it. Return whether it is gone."""
    if not path.exists():
        return True
    if _is_foreign(path):
        log.warning("%s: left where it is; it is not as we wrote it", path)
        return False
    path.unlink(missing_ok=True)
    return True


def set_aside(path: Path) -> Path:
    """Give a damaged file or folder that is in the way another name. Nobody can prove that its content is ours."""
    aside = free_name(path.with_name(f"{path.name}.damaged"))
    path.rename(aside)
    log.warning("%s: damaged or changed; kept as %s, which may be removed", path, aside.name)
    return aside


@contextmanager
def staged_folder(path: Path, kind: str, private: bool = False, key: str = "output_dir") -> Iterator[Path]:
    """Yield a temporary folder; publish it under `path` when the block ends well.

    An existing folder is replaced only when it is of the same kind and every file in it is as we wrote it.
    The replacement is one step where the file system can exchange names. Local ones can. NFS cannot, so there the old
    folder is moved away first. A folder that has to stay (a mount, another owner, group or mode) gets the new pieces in
    place of its own (`placing`). kind: what it holds, in words. private: whether it shows faces. key: the flag that
    gave it. Raises: OutputError otherwise, or when the disk is full or cannot be written. Nothing is changed then.
    """
    refuse_replacing(path, kind, key)
    path = path.resolve()
    with told(path):
        _put_back(path, kind)
        stays = has_to_stay(path, private)
        temporary = _make_temporary_folder(path, stays)
        try:
            yield temporary
            files = [each for each in sorted(temporary.rglob("*")) if each.is_file()]
            record(temporary, [(each.relative_to(temporary).as_posix(), sha256_file(each)) for each in files])
            write_json(temporary / RECORDS_NAME / FOLDER_NAME, {"kind": kind, WHOLE: True})
            settle_modes(temporary, private)
            fsync_tree(temporary)
            strangers = strangers_in(path)
            target = free_name(_place_beside(path, stays)) if strangers else path
            if stays and not strangers:
                close_or_say(path, private)
                put_inside(temporary, path, kind)
            else:
                _put(temporary, target, kind)
            _say_where(path, target)
        finally:
            # After an exchange the old folder lies here.
            _remove_ours(temporary, path)


@contextmanager
def new_folder(path: Path, key: str = "output_dir") -> Iterator[Path]:
    """Yield a temporary folder. When the block ends well it gets the name `path`, which must be free.

    This is for results that are too large to be replaced on a proof, and that keep their own record of sums. An empty
    folder that has to stay gets the pieces. Raises: OutputError when `path` exists and is not an empty folder, or when
    the disk is full or cannot be written.
    """
    refuse_existing(path, key)
    path = path.resolve()
    with told(path):
        # A desktop's or a file system's own file in an otherwise empty folder also keeps it from being replaced.
        stays = has_to_stay(path, private=False) or bool(path.is_dir() and any(path.iterdir()))
        temporary = _make_temporary_folder(path, stays)
        try:
            yield temporary
            settle_modes(temporary, False)
            fsync_tree(temporary)
            if stays and not names_in(path):
                close_or_say(path, private=False)
                put_inside(temporary, path, None)
                return
            target = free_name(_place_beside(path, stays)) if stays else path
            # In one step, a folder can take the place of an empty folder only.
            temporary.rename(target)
            fsync_folder(target.parent)
            _say_where(path, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _make_temporary_folder(path: Path, inside: bool) -> Path:
    """Make a private folder beside `path`, or inside it, to become it. First sweep what dead processes left there."""
    place = path if inside else path.parent
    place.mkdir(parents=True, exist_ok=True)
    for swept in (place, place / RECORDS_NAME):
        sweep(swept)
    sweep_folders(place)
    temporary = temporary_beside(place / path.stem)
    temporary.mkdir(PRIVATE_FOLDER)
    return temporary


def _place_beside(path: Path, stays: bool) -> Path:
    """Where a result goes whose place was taken meanwhile: beside it, or within it if beside is another disk."""
    return path / path.name if stays else path


def sweep_folders(folder: Path) -> None:
    """Remove whole folders of ours under temporary names: new or replaced ones that killed processes left.

    A folder that holds anything of somebody else's gets a visible name instead.
    """
    for path in abandoned(folder):
        if path.is_dir() and not path.is_symlink() and was_whole(path):
            log.info("%s: left by a process that was ended", path)
            _remove_ours(path, folder / "result")


def refuse_replacing(path: Path, kind: str, key: str = "output_dir") -> None:
    """Make only the refusals of `staged_folder`; write nothing. Raises: OutputError."""
    _refuse_other_kind(path, kind, key)
    strangers = strangers_in(path)
    if strangers:
        raise OutputError(
            f"{key}={path}: holds {_some(strangers)}, not as this command wrote it; name an empty or a new folder"
        )
    _refuse_standing_in(path, key)
    _refuse_unwritable(path.resolve(), key)


def refuse_existing(path: Path, key: str = "output_dir") -> None:
    """Refuse a path for a result too large to be replaced on a proof. Raises: OutputError when anything is there."""
    refuse_hidden(path, key)
    _refuse_dangling(path, key)
    if path.is_dir() and os.access(path, os.W_OK):
        # This may be half of a result that a killed command was putting there. Finishing makes it whole.
        finish(path)
    if path.exists() and (not path.is_dir() or names_in(path)):
        raise OutputError(f"{key}={path}: exists; name a new folder, or remove it")
    _refuse_standing_in(path, key)
    _refuse_unwritable(path.resolve(), key)


def _refuse_within_result(path: Path, key: str) -> None:
    """Refuse a file in a result that is replaced whole: what another command puts there would go with it."""
    for folder in path.absolute().parents:
        if is_temporary(folder.name):
            return
        said = find_json(folder / RECORDS_NAME / FOLDER_NAME) or {}
        if said.get(WHOLE):
            raise OutputError(
                f"{key}={path}: {folder} holds {said.get('kind')}, and is replaced as a whole; name a file beside it"
            )


def is_ours(path: Path) -> bool:
    """Whether a file is there and is as we wrote it."""
    return path.is_file() and not _is_foreign(path)


def _is_foreign(path: Path, digest: str | None = None, by_this_program: bool | None = None) -> bool:
    """Whether something is there that we did not write.

    digest: its sha256, where the caller knows it. by_this_program: whether what another command wrote is foreign. By
    default it is foreign where no folder's kind says whose it is.
    """
    if not path.exists() and not path.is_symlink():
        return False
    if path.is_symlink() or not path.is_file():
        return True
    if path.name.startswith(f".faceid-{process_mark()}-"):
        # A temporary name of this process. Whoever writes under it stages the file once more.
        return False
    if by_this_program is None:
        by_this_program = kind_of(path.parent) is None
    return not is_recorded(path, digest, by_this_program)


def _refuse_foreign(path: Path, key: str = "", by_this_program: bool | None = None) -> None:
    if _is_foreign(path, by_this_program=by_this_program):
        named = f"{key}={path}" if key else f"{path}"
        records = path.parent / RECORDS_NAME
        closed = [
            each for each in (path, records) if each.exists() and not os.access(each, os.R_OK, effective_ids=True)
        ]
        if path.exists() and closed:
            what = "cannot be read" if closed[0] == path else f"{records} cannot be read"
            raise OutputError(
                f"{named}: exists and {what} (Permission denied), so nothing shows that this command wrote it; it is "
                "left as it is: name another file, or move it away"
            )
        raise OutputError(
            f"{named}: exists, and is not as this command wrote it; it is left as it is: name another file, or move it "
            "away"
        )


def _refuse_other_kind(folder: Path, kind: str, key: str) -> None:
    refuse_hidden(folder, key)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{key}={folder}: is a file; name a folder")
    _refuse_dangling(folder, key)
    found = kind_of(folder)
    if found not in (None, kind):
        raise OutputError(f"{key}={folder}: holds {found}, not {kind}; name another folder")


def _refuse_read(path: Path, inputs: Sequence[Path], key: str, what: str) -> None:
    if path.exists() and path.resolve() in [read.resolve() for read in inputs if read.exists()]:
        raise OutputError(f"{key}={path}: is read from by the same command; name another {what}")


def _refuse_dangling(path: Path, key: str) -> None:
    """Refuse a link that leads nowhere. Most often a disk is not mounted; a new folder would lie on the wrong one."""
    if path.is_symlink() and not path.exists():
        raise OutputError(f"{key}={path}: is a link to {path.readlink()}, which is not there; make that folder first")


def _refuse_standing_in(path: Path, key: str) -> None:
    """Refuse to replace the current folder. Whoever stands in it would then stand in a folder that is gone."""
    if path.exists() and Path.cwd().is_relative_to(path.resolve()):
        raise OutputError(f"{key}={path}: is the folder you are in; name one in it, or go elsewhere")


def _put(temporary: Path, path: Path, kind: str) -> None:
    """Give a whole folder its name. An older folder has the temporary name after that."""
    try:
        is_exchanged = path.exists() and exchange(temporary, path)
    except OSError as error:
        if error.errno not in STAYS:
            raise
        # Some folders cannot be renamed although no check showed it before, for example in a container's image.
        inside = path / temporary.name
        temporary.rename(inside)
        put_inside(inside, path, kind)
        return
    if path.exists() and not is_exchanged:
        # This file system cannot exchange names. For a moment the folder is only under its second name. That name is
        # visible, and no command sweeps it. If this process is killed here, the next one puts the folder back.
        aside = free_name(_replaced_name(path))
        write_json(path / RECORDS_NAME / _REPLACED_NAME, {"by": process_mark()})
        path.rename(aside)
        temporary.rename(path)
        _remove_ours(aside, path)
    elif temporary.exists() and not path.exists():
        temporary.rename(path)
    fsync_folder(path.parent)


def _put_back(path: Path, kind: str) -> None:
    """Give a folder that a killed writer had moved away its name again; remove it where a new one has the name."""
    finish(path)
    aside = _replaced_name(path)
    if kind_of(aside) != kind or not (aside / RECORDS_NAME / _REPLACED_NAME).is_file():
        return
    if path.exists():
        _remove_ours(aside, path)
        return
    aside.rename(path)
    (path / RECORDS_NAME / _REPLACED_NAME).unlink()
    log.warning("%s: was %s since a process was ended; it has its name again", path, aside.name)


def _replaced_name(path: Path) -> Path:
    return path.with_name(f"{path.name}.replaced")


def _remove_ours(folder: Path, path: Path) -> None:
    """Remove a folder that is replaced or was never finished. What somebody put into it meanwhile is kept.

    path: the name it had, or was to get.
    """
    if not folder.exists():
        return
    if not was_whole(folder):
        # The folder was never finished, so all of it is this process's.
        shutil.rmtree(folder, ignore_errors=True)
        return
    strangers = strangers_in(folder)
    if strangers:
        kept = free_name(_replaced_name(path))
        folder.rename(kept)
        log.warning("%s: kept as %s: somebody put %s into it before it was replaced", path, kept, _some(strangers))
        return
    shutil.rmtree(folder, ignore_errors=True)


def _say_where(path: Path, target: Path) -> None:
    if target != path:
        log.warning("%s: somebody wrote there meanwhile, and it is left as it is; the result is %s", path, target)


def refuse_hidden(path: Path, key: str = "") -> None:
    """Refuse a path that cannot be looked at: nobody can know whether it is ours or missing. Raises: OutputError."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            os.scandir(path).close()
    except PermissionError:
        named = f"{key}={path}" if key else f"{path}"
        raise OutputError(f"{named}: cannot be looked into; name another place, or change its permissions") from None
    except OSError:
        return


def _refuse_unwritable(folder: Path, key: str) -> None:
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not place.is_dir():
        raise OutputError(f"{key}={folder}: {place} is a file; name another place")
    records = folder / RECORDS_NAME
    if records.exists() and not records.is_dir():
        raise OutputError(f"{key}={folder}: {records} is a file, where what is written is noted; move it away")
    # access() respects read-only disks, and knows that the superuser may write anywhere else.
    for needed in (place, records):
        if needed.exists() and not os.access(needed, os.W_OK | os.X_OK):
            noted = ", where what is written is noted," if needed == records else ""
            raise OutputError(
                f"{key}={folder}: {needed}{noted} cannot be written; name another place, or change its permissions"
            )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and more"
