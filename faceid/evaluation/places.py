"""Check where results of this room may go, before heavy imports. The work itself checks again."""

from __future__ import annotations

from pathlib import Path

from faceid.errors import DataError

# The folders' content, in words (`faceid.files.outputs`).
EVALUATION, VERIFICATION = "an evaluation", "a verification"


def refuse_output_among_photos(output_dir: Path, faces_dir: Path, key: str = "faces_dir") -> None:
    """Raises: DataError when `output_dir` holds the photos, or would be taken for a person in the next run.

    key: the flag that gave `faces_dir`.
    """
    output_dir, faces_dir = output_dir.resolve(), faces_dir.resolve()
    if faces_dir in (output_dir, *output_dir.parents):
        raise DataError(f"output_dir={output_dir}: lies in {key}, among the photos; choose another output folder")
    if output_dir in faces_dir.parents:
        raise DataError(f"output_dir={output_dir}: holds {key} and would be replaced; choose another output folder")
