"""How Sphinx builds the pages: `make docs` writes site/ from the Markdown files, where they lie.

The repository is the source folder, so that links between README, CONTRIBUTING, CHANGELOG, docs/ and
benchmarks/records/ are the same here and on GitHub. The table of contents stands here, since pages are plain Markdown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

ROOT = Path(__file__).resolve().parents[1]
# The table of contents: a caption, and its pages in order.
CONTENTS = {
    "Start": ["docs/index", "docs/tasks"],
    "Use": ["docs/photos", "docs/aist", "docs/run_folder", "docs/rendering", "docs/adapters", "docs/slurm"],
    "Look up": ["docs/troubleshooting", "docs/data_formats", "docs/evidence", "docs/licences"],
    "Change": ["CONTRIBUTING", "docs/architecture", "docs/extending", "docs/files", "CHANGELOG"],
    "Decisions": [
        "docs/decisions",
        "docs/decisions/models",
        "docs/decisions/data",
        "docs/decisions/films_and_pictures",
        "docs/decisions/training",
        "docs/decisions/slurm",
        "docs/decisions/rendering",
        "docs/decisions/likeness",
        "docs/decisions/files_and_trust",
        "docs/decisions/tests_and_house",
    ],
    "Records": [
        "benchmarks/README",
        "benchmarks/records/peers",
        "benchmarks/records/sampling_table",
        "benchmarks/records/sampling_table_full",
    ],
}

# Pages of these folders are called by their file's name.
SHORT = ("docs/decisions", "benchmarks/records")

project = "faceid"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = [f"{page}.md" for page in ["README", *(page for pages in CONTENTS.values() for page in pages)]]
# The others need not be looked through.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "benchmarks")]
# Headings are linked by the names that GitHub gives them.
myst_heading_anchors = 3
highlight_language = "none"
# They make a dash of the two of a flag.
smartquotes = False

html_theme = "furo"
html_title = "faceid"
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]


def entry(page: str) -> str:
    """A page in the table of contents; decisions and records stand under that word, and need it in no title."""
    folder, _, name = page.rpartition("/")
    return f"{name.replace('_', ' ').capitalize()} <{page}>" if folder in SHORT else page


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Put the table of contents under the first page, where Sphinx looks for it."""
    if name == root_doc:
        trees = (
            "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {caption}\n", *map(entry, pages), "```"])
            for caption, pages in CONTENTS.items()
        )
        source[0] += "\n\n" + "\n\n".join(trees)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write index.html, which leads to the first page.

    Raises: SphinxError where a page loads something from elsewhere; the pages are to work without a network.
    """
    loads = re.compile(r"""<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//""")
    if error is None:
        index = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(index, encoding="utf-8")
        for path in sorted(Path(app.outdir).rglob("*.html")):
            if loads.search(path.read_text(encoding="utf-8")):
                raise SphinxError(f"{path.relative_to(app.outdir)}: loads something from the network")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}
