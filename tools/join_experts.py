"""Join two adapters, one for each transformer of a Wan2.2 base, to one file for sample.py."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point
from faceid.files.outputs import refuse_file
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.join_experts")


@dataclass(frozen=True)
class JoinSettings:
    """What is joined, and of which base."""

    high: Path
    """Adapter of a run with --expert high."""
    low: Path
    """Adapter of a run with --expert low."""
    model_path: str
    """The base with two transformers that both were trained on."""
    output: Path
    """File to write: .safetensors or .pth."""

    def __post_init__(self) -> None:
        if self.output.suffix not in (".safetensors", ".pth"):
            raise ConfigError(f"output={self.output}: must end with .safetensors or .pth, which sample.py reads")


def main(argv: list[str] | None = None) -> int:
    """Parse, compare, join, write."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/join_experts.py", __doc__ or "", [JoinSettings], words)
    set_up_logging()

    # Importing these takes seconds, so it comes only once the command line is known to be good.
    from faceid.models.adapter.adapter_file import join_experts, save_adapter
    from faceid.models.adapter.adapter_folder import find_adapter
    from faceid.models.base.model_files import ModelFiles
    from faceid.toy.shipped import resolve_model_path

    refuse_file(settings.output, [settings.high, settings.low])
    files = ModelFiles.find(resolve_model_path(settings.model_path))
    high, low = find_adapter(settings.high, "high"), find_adapter(settings.low, "low")
    tensors, metadata = join_experts(high, low, files, settings.model_path)
    save_adapter(settings.output, tensors, metadata)
    log.info("%s: %d tensors for both transformers of %s", settings.output, len(tensors), settings.model_path)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
