"""Write and read the manifest of an identity folder.

Files that it lists were written by us and may be replaced.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from faceid.errors import DataError
from faceid.files.documents import fitted, parse_json, read_bytes
from faceid.files.outputs import refuse_replacing
from faceid.files.provenance import sha256_file
from faceid.files.writing import write_json

MANIFEST_FILE = "manifest.json"
FORMAT = "faceid identity 1"
# The folder's content, in words.
IDENTITY = "an identity"


def write_manifest(folder: Path, about: dict[str, Any]) -> None:
    """Write manifest.json last, over all files already in `folder`. about: plain types, never faces."""
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_json(folder / MANIFEST_FILE, {"format": FORMAT, **about, "files": files})


def check_manifest(folder: Path) -> None:
    """Check manifest.json, and every tensor and picture that it lists against its sha256.

    Raises: DataError when the manifest is missing, is another tool's, or a file differs from it.
    """
    file = folder / MANIFEST_FILE
    try:
        manifest = parse_json(read_bytes(file))
    except FileNotFoundError as error:
        raise DataError(f"{file}: missing, so the identity folder is not whole; make it again") from error
    except ValueError as error:
        raise DataError(f"{file}: not JSON ({error}); make the identity again") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{file}: not the manifest of an identity folder ({FORMAT!r}); choose another folder")
    try:
        files = fitted(dict[str, dict[str, Any]], manifest.get("files"), "files")
        outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in name.split("/")]
        if outside or any(not isinstance(entry.get("sha256"), str) for entry in files.values()):
            raise ValueError(f"{outside[0]!r} is outside the folder" if outside else "a file without its sha256")
    except ValueError as error:
        raise DataError(f"{file}: damaged ({error}); make the identity again") from error
    for name, entry in files.items():
        path = folder / name
        if path.suffix in (".pt", ".png") and (not path.is_file() or sha256_file(path) != entry["sha256"]):
            raise DataError(f"{path}: missing or changed since it was written; make the identity again")


def check_output_folder(output_dir: Path, photos_dir: Path) -> None:
    """Raises: DataError unless `output_dir` is new, empty, or an earlier identity folder just as we wrote it."""
    # The path is resolved only here. Later a link to a disk that is not mounted is refused as a link.
    if output_dir.resolve() in (photos_dir.resolve(), *photos_dir.resolve().parents):
        raise DataError(f"{output_dir}: holds the photos themselves; choose another output folder")
    refuse_replacing(output_dir, IDENTITY)
