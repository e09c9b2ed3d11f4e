"""Shared by all tests: the toy base, the folder of real data, and quiet, single-threaded libraries."""

import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: two busy processes with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Environments that share a folder of compiled extensions rebuild them under each other's running processes.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))

import pytest
import warm_process
from calling import call
from launching import ToyInputs

pytest_plugins = ["durations", "process_guard", "promises", "pytester"]

REPOSITORY = Path(__file__).resolve().parent.parent
DURATIONS = REPOSITORY / "benchmarks" / "records" / "tests.json"
REAL_DATA = Path(os.environ.get("FACEID_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that took longest when last recorded come first, so that no process ends long after the other."""
    seconds: dict[str, float] = defaultdict(float)
    record = json.loads(DURATIONS.read_text()) if DURATIONS.is_file() else {}
    for kind, costs in record.items():
        if kind == "tests" or kind.startswith("files, of their tests"):
            for name, cost in costs.items():
                seconds[name.partition("::")[0]] += cost["wall_s"]
    items.sort(key=lambda item: -seconds[str(item.path.relative_to(REPOSITORY))])


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command's log set-up ends with its test: pytest listens in another way to a log that hands nothing on."""
    yield
    log = logging.getLogger("faceid")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and photos; skips, with the reason, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA} (set FACEID_REAL_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def toy_path() -> Path:
    """The embedded base's folder."""
    from faceid.toy.shipped import resolve_model_path

    return resolve_model_path("toy")


@pytest.fixture(scope="session")
def warm_server() -> None:
    """The server of warm processes, up: for a test that would else be charged with its imports."""
    if not warm_process.address[0]:
        warm_process.start_server()


@pytest.fixture
def toy_wan(toy_path):
    """A fresh embedded base in memory: tests may install adapters on it."""
    from faceid.models.base.wan import load_wan

    return load_wan(toy_path, name="toy")


@pytest.fixture
def small_adapter_settings():
    """An adapter small enough for a test."""
    from faceid.models.adapter_settings import AdapterSettings

    return AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, mapper_dropout=0.0)


@pytest.fixture(scope="session")
def toy_inputs(tmp_path_factory) -> ToyInputs:
    """A small toy data set, prepared once by the tools: in this process, for each would import torch anew."""
    folder = tmp_path_factory.mktemp("toy_inputs")
    dataset = folder / "dataset"
    tools = {
        "make_toy_dataset": [
            "--output_dir",
            dataset,
            "--num_people",
            "2",
            "--clips_per_person",
            "2",
            "--photos_per_person",
            "4",
            "--reference_photos",
            "2",
            # Small clips are made and learnt sooner. The world's own are of 96 pixels.
            *"--height 64 --width 64 --framings [whole]".split(),
            # In this world the detector finds the target in every photo.
            "--seed",
            "1",
        ],
        "make_shards": [
            *("--dance_videos_dir", dataset / "videos", "--pose_videos_dir", dataset / "poses"),
            *("--output_dir", folder / "shards", *"--num_frames 9 --height 64 --width 64".split()),
        ],
        "encode_latents": ["--shards", folder / "shards", "--model_path", "toy", "--output_dir", folder / "latents"],
        "prepare_face_embeddings": [
            *("--face_images_dir", dataset / "photos" / "target", "--output_dir", folder / "identity"),
            *("--identity_name", "target", "--encoder_path", "toy"),
        ],
    }
    for name, flags in tools.items():
        made = call(f"tools/{name}.py", *flags)
        assert made.code == 0, made.screen
    return ToyInputs(dataset, folder / "shards", folder / "latents", folder / "identity")
