"""The layout stays true: floors, rooms, doors and names, read from the imports by `ast` alone.

Raise a floor or open a door here only on purpose, together with docs/architecture.md.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.promise("floors and doors hold; planted violations are seen", bar="all seen", proof="main")

REPOSITORY = Path(__file__).resolve().parents[1]
FLOORS = [
    {"errors", "config", "limits", "geometry", "logs", "claims", "processes", "files"},
    {"device", "flow", "tensor_files"},
    {"media"},
    {"models", "faces"},
    {"data", "toy"},
    {"sampling", "evaluation", "description"},
    {"training"},
]
# Rooms within a room, from below: each imports those before it alone. A module of the room itself may stand here by its
# name; all others of the room itself are ".".
ROOMS_WITHIN = {
    "media": ["pixels", "."],
    "models": [".", "wan_vace", "base", "compute", "adapter", "lora", "rendering", "costs"],
    "faces": ["encoders", ".", "photos", "identities"],
    "data": [".", "body", "shards", "clips", "films", "latents", "dancer_faces", "stream"],
    "sampling": ["who", "one_video", "jobs", "."],
    "evaluation": ["places", "figures", "videos", "report", "verification", "."],
    "training": [
        "recipe",
        "world",
        "checkpoints",
        "inputs",
        "measuring",
        "validation",
        "checks",
        ".",
    ],
}
# What a base's transformer has alone is written in its folder, and where the toy's own is described.
OF_ONE_BASE = {
    "wan_vace": ("WanVACE", "vace_blocks", "vace_layers", "vace_in_channels", "vace_patch", "control_hidden_states")
}
DESCRIBES_A_BASE = {"faceid/toy/shipped.py"}
MOST_FILES = 15
HEAVY = {"torch", "transformers", "cv2", "av", "numpy", "PIL", "scipy"}
COMMANDS = ["train.py", "sample.py", *sorted(f"tools/{p.name}" for p in (REPOSITORY / "tools").glob("*.py"))]
TOP_FLOOR = len(FLOORS)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SAME_FLOOR_ALLOWED = {("toy", "data")}
# A heavy library is imported in these rooms only.
DOORS = {
    "diffusers": {"models"},
    "peft": {"models"},
    "transformers": {"models", "faces"},
    "cv2": {"faces", "media"},
    "av": {"media"},
    # Benchmarks compare with it.
    "webdataset": {"data", "entry"},
    "accelerate": {"training"},
    "deepspeed": {"training"},
    "tensorboard": {"training"},
    "matplotlib": {"evaluation"},
    "scipy": {"evaluation", "entry"},
    "jinja2": {"models", "faces", "sampling", "evaluation", "data"},
}
# A benchmark may use what it measures us against.
COMPARED_WITH = {
    ("benchmarks/faults/checkpoint_crashes.py", "accelerate"),
}
FORBIDDEN_NAMES = {"util", "utils", "common", "base", "helper", "helpers", "misc", "registry", "callback", "callbacks"}
# The base model: the field's own word.
ALLOWED_FOLDERS = {"faceid/models/base"}


def violations(root: Path) -> list[str]:
    """Every breach of the house rules in the tree at `root`, as `file:line: what`."""
    found = []
    for path in _sources(root):
        name = path.relative_to(root).as_posix()
        said = next((name.removeprefix(f) for f in ALLOWED_FOLDERS if name.startswith(f"{f}/")), name)
        if {part.removesuffix(".py").strip("_") for part in said.split("/")} & FORBIDDEN_NAMES:
            found.append(f"{name}:1: a name that says nothing")
        room = _room(path.relative_to(root))
        if room is None:
            continue
        for line, module in _imports(path, root):
            reason = _breach(room, module) or _breach_within(_within(name.split("/")[1:], room), module)
            if reason and (name, module.split(".")[0]) not in COMPARED_WITH:
                found.append(f"{name}:{line}: {room} imports {module}: {reason}")
    return found


def _sources(root: Path) -> list[Path]:
    entries = [root / "train.py", root / "sample.py"]
    folders = [root / name for name in ("faceid", "tools", "benchmarks")]
    return sorted([e for e in entries if e.is_file()] + [p for f in folders for p in f.rglob("*.py")])


def _room(path: Path) -> str | None:
    """The room of a file; `entry` on the top floor; None for faceid/__init__.py, the public face of all rooms."""
    if path.parts[0] != "faceid":
        return "entry"
    room = path.parts[1].removesuffix(".py")
    return None if room == "__init__" else room


def _breach(room: str, module: str) -> str | None:
    library, *rest = module.split(".")
    if library in DOORS or module == "torch.utils.tensorboard":
        doors = DOORS["tensorboard" if module == "torch.utils.tensorboard" else library]
        return None if room in doors else f"its door is {', '.join(sorted(doors))}"
    floor = TOP_FLOOR if room == "entry" else FLOOR_OF.get(room)
    if floor is None:
        return "the room is on no floor"
    if library == "torch" and floor == 0:
        return "floor 0 knows no tensors"
    if floor == 1 and library not in {"torch", "faceid", *sys.stdlib_module_names}:
        return "floor 1 knows torch only"
    if library != "faceid" or not rest or rest[0] == room:
        return None
    target = FLOOR_OF.get(rest[0])
    if target is None:
        # An entry point may take names of the public face: `from faceid import FaceIdentityPipeline`.
        return None if room == "entry" or rest[0].startswith("__") else "the room is on no floor"
    if target < floor or (room, rest[0]) in SAME_FLOOR_ALLOWED or (target == floor and floor == 0):
        return None
    return f"floor {floor} does not import floor {target}"


def _within(parts: list[str], room: str) -> tuple[str, int] | None:
    """(room, place) of a module among the rooms within its room; None where a room has none."""
    order = ROOMS_WITHIN.get(room)
    if order is None or len(parts) < 2:
        return None
    inside = parts[1].removesuffix(".py")
    return room, order.index(inside if inside in order else ".")


def _breach_within(here: tuple[str, int] | None, module: str) -> str | None:
    there = _within(module.split(".")[1:], module.split(".")[1]) if module.startswith("faceid.") else None
    if here is None or there is None or here[0] != there[0] or there[1] <= here[1]:
        return None
    order = ROOMS_WITHIN[here[0]]
    return f"in {here[0]}/, {order[here[1]]} stands below {order[there[1]]}"


def _imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also inside functions, relative, by importlib or __import__."""
    package = list(path.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(above + ([node.module] if node.module else []))
            # `from faceid import models` and `from torch.utils import tensorboard` name modules too.
            is_room = module == "torch.utils" or module in ("faceid", *(f"faceid.{room}" for room in ROOMS_WITHIN))
            names = [f".{alias.name}" for alias in node.names] if is_room else [""]
            yield from ((node.lineno, module + name) for name in names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "importorskip"):
                yield node.lineno, str(node.args[0].value)


def test_the_house_stands():
    assert violations(REPOSITORY) == []


def words_of_one_base(root: Path) -> list[str]:
    """Every line of code outside a base's folder that writes what its transformer alone has, as `file:line: word`."""
    found = []
    for base, words in OF_ONE_BASE.items():
        for path in _sources(root):
            name = path.relative_to(root).as_posix()
            if name.startswith("benchmarks/"):
                continue  # They compare with diffusers' own classes.
            if f"/models/{base}/" not in name and name not in DESCRIBES_A_BASE:
                found += [f"{name}:{line}: {text}" for line, text in _code(path) if any(w in text for w in words)]
    return found


def _code(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every name and text of a file, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    for node in ast.walk(tree):
        texts = [getattr(node, key, None) for key in ("id", "attr", "arg", "name")]
        if isinstance(node, ast.Constant) and id(node) not in documents:
            texts.append(node.value)
        yield from ((getattr(node, "lineno", 0), text) for text in texts if isinstance(text, str))


@pytest.mark.slow
def test_what_a_base_alone_has_is_written_in_its_folder():
    assert words_of_one_base(REPOSITORY) == []


@pytest.mark.parametrize(
    "source", ["transformer.vace_blocks", "from diffusers import WanVACEPipeline", "f(control_hidden_states=1)"]
)
def test_what_a_base_alone_has_is_seen_elsewhere(tmp_path, source):
    path = tmp_path / "faceid/models/lora/x.py"
    path.parent.mkdir(parents=True)
    path.write_text(f'"""About WanVACEPipeline."""\n{source}\n')
    assert len(words_of_one_base(tmp_path)) == 1


def test_every_room_is_on_a_floor():
    rooms = {p.name.removesuffix(".py") for p in (REPOSITORY / "faceid").iterdir() if not p.name.startswith("__")}
    assert rooms - {"py.typed"} <= set(FLOOR_OF)


def test_every_room_within_a_room_has_its_place():
    for room, order in ROOMS_WITHIN.items():
        folders = {p.parent.name for p in (REPOSITORY / "faceid" / room).glob("*/__init__.py")}
        modules = {p.stem for p in (REPOSITORY / "faceid" / room).glob("*.py")}
        assert folders <= set(order), room
        assert set(order) <= folders | modules | {"."}, room


def test_a_folder_can_be_taken_in_at_a_glance():
    folders = {p.parent for p in (REPOSITORY / "faceid").rglob("*.py")}
    counts = {str(f.relative_to(REPOSITORY)): sum(p.is_file() for p in f.iterdir()) for f in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_no_two_modules_share_a_name():
    package = REPOSITORY / "faceid"
    names = [p.stem if p.stem != "__init__" else p.parent.name for p in package.rglob("*.py")]
    assert sorted(names) == sorted(set(names))


def test_everything_in_the_package_is_packaged():
    files = [p for p in (REPOSITORY / "faceid").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert {p.parent for p in files if p.suffix == ".py" and not (p.parent / "__init__.py").is_file()} == set()
    # What setup.py's package_data takes along.
    taken = [
        p for p in files if p.suffix in (".py", ".j2", ".json", ".yaml") or p.name == "py.typed" or "weights" in p.parts
    ]
    assert set(files) - set(taken) == set()


PLANTED = {
    "upward": ("faceid/models/x.py", "from faceid.training.loop import run"),
    "upward in a function": ("faceid/flow.py", "def f():\n    import faceid.models.base.wan"),
    "upward by from faceid import": ("faceid/data/x.py", "from faceid import training"),
    "upward, relative": ("faceid/media/x.py", "from ..data import clips"),
    "sideways": ("faceid/models/x.py", "from faceid.faces.photos.detect import load_detector"),
    "upward within a room": ("faceid/data/shards/x.py", "from faceid.data.stream.mixture import mix"),
    "upward within a room by from": ("faceid/data/shards/x.py", "from faceid.data import stream"),
    "upward within a room, relative": ("faceid/data/shards/x.py", "from ..stream import mixture"),
    "from its foot into a room within": ("faceid/data/x.py", "from faceid.data.shards.index import Index"),
    "into its top": ("faceid/training/world/x.py", "from faceid.training.loop import train"),
    "into its top by from": ("faceid/training/world/x.py", "from faceid.training import loop"),
    "sideways on floor 1": ("faceid/flow.py", "import faceid.device"),
    "data uses toy": ("faceid/data/x.py", "from faceid.toy import people"),
    "wrong door": ("faceid/sampling/x.py", "import diffusers"),
    "wrong door in a tool": ("tools/x.py", "from transformers import CLIPModel"),
    "wrong door in a benchmark": ("benchmarks/x.py", "import cv2"),
    "wrong door from the entry": ("train.py", "import accelerate"),
    "wrong door by importlib": ("faceid/training/x.py", "import importlib\nimportlib.import_module('av')"),
    "wrong door by __import__": ("faceid/toy/x.py", "__import__('webdataset')"),
    "TensorBoard through torch": ("tools/x.py", "from torch.utils.tensorboard import SummaryWriter"),
    "TensorBoard through torch.utils": ("tools/x.py", "from torch.utils import tensorboard"),
    "tensors on floor 0": ("faceid/config.py", "import torch"),
    "another library on floor 1": ("faceid/device.py", "import numpy"),
    "unknown room": ("faceid/extras/x.py", "import faceid.errors"),
    "utils": ("faceid/media/utils.py", ""),
    "utils in the base": ("faceid/models/base/utils.py", ""),
    "base_": ("faceid/models/base_.py", ""),
    "helpers folder": ("tools/helpers/x.py", ""),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_reported(tmp_path, kind):
    name, source = PLANTED[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert [found.split(":")[0] for found in violations(tmp_path)] == [name]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("faceid/toy/x.py", "from faceid.data.clips import read\nfrom faceid.media.pixels.draw import Canvas"),
        ("faceid/models/x.py", "import torch, diffusers\nfrom faceid.flow import path\nfrom .wan import load"),
        ("faceid/config.py", "from faceid.errors import ConfigError\nimport pydantic"),
        ("faceid/__init__.py", "def __getattr__(name):\n    from faceid.models import pipeline"),
        ("train.py", "from faceid.training import loop\nimport torch"),
        ("tools/x.py", "from faceid import FaceIdentityPipeline, __version__"),
        ("faceid/models/base/x.py", "from faceid.models.adapter_settings import AdapterSettings"),
    ],
)
def test_a_lawful_import_is_not_reported(tmp_path, name, source):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_no_two_files_of_tests_share_a_name():
    """pytest tells files without packages apart by their bare name, and refuses the second when both are collected."""
    names = sorted(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert names == sorted(set(names))


@pytest.mark.starts_process
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_line_is_read_before_torch_is(name):
    """A mistyped flag is told at once, and a Slurm job's small steps do not wait for torch from a file server."""
    code = (
        f"import runpy, sys\nsys.argv = [{name!r}, '--help']\nsys.path.insert(0, 'tools')\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"except SystemExit:\n    sys.exit(' '.join({HEAVY} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "usage:" in done.stdout and (done.returncode, done.stderr) == (0, "")
