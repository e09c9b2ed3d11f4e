"""Describe a person by what the base itself takes the photos for: the phrases under which they surprise it least.

Training can begin with this description (train.py --target_description), and learns from the photos what no phrase
says.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from faceid.config import parse_sections, warn_of_unused
from faceid.description.describe_settings import DescribeSettings
from faceid.errors import ConfigError, run_entry_point
from faceid.files.outputs import refuse_file
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.describe_person")


def main(argv: list[str] | None = None) -> int:
    """Parse, check what can be checked cheaply, describe."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/describe_person.py", __doc__ or "", [DescribeSettings], words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.description.describe import describe
    from faceid.description.description_file import SUFFIX, write_description

    set_up_logging()
    warn_of_unused([settings], settings.unused())
    output = Path(settings.output)
    if output.suffix != SUFFIX:
        raise ConfigError(f"output={output}: does not end in {SUFFIX}; name such a file")
    refuse_file(output)
    description = describe(settings)
    write_description(output, description, settings.shared)
    log.info("%s: %d tokens, for train.py --target_description; edit with --text", output, len(description.tokens))
    # What a person looks like goes to whoever asked, and into no log.
    print(description.text)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
