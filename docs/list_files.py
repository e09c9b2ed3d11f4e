"""Write docs/files.md: every file of the package, the commands and the tools, with the first line of its docstring.

Usage: python docs/list_files.py. A test compares the page with what this makes.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "files.md"
HEAD = """# Every file in a line

For whoever looks for the place of something. `python docs/list_files.py` makes this page from the first lines of the
docstrings. How the parts work together is in [architecture](architecture.md).
"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring, empty where it has none."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    return lines[0] if lines else ""


def rows(folder: Path, title: str) -> str:
    """The table of one folder's own files; empty where they say nothing."""
    said = {path.name: first_line(path) for path in sorted(folder.glob("*.py"))}
    # What stands in a cell of Markdown, and is shown as it is.
    shown = {name: line.replace("|", "\\|").replace("<", "\\<") for name, line in said.items() if line}
    if not shown:
        return ""
    table = "".join(f"| `{name}` | {line} |\n" for name, line in shown.items())
    return f"\n## {title}\n\n| file | what it is |\n|---|---|\n{table}"


def page() -> str:
    """The page as it should be, from the files as they are."""
    commands = {path.name: first_line(path) for path in (ROOT / "train.py", ROOT / "sample.py")}
    table = "".join(f"| `{name}` | {line} |\n" for name, line in commands.items())
    text = f"{HEAD}\n## The commands\n\n| file | what it is |\n|---|---|\n{table}"
    for top in ("tools", "faceid"):
        folders = sorted({path.parent for path in (ROOT / top).rglob("*.py")})
        text += "".join(rows(folder, f"{folder.relative_to(ROOT)}/") for folder in folders)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(page().splitlines())} lines")
