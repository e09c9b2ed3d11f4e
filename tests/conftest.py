"""Shared by all tests: the toy base, the folder of real data, and quiet, single-threaded libraries."""

import os
from pathlib import Path

# Before torch is imported: two busy processes with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("FACEID_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests make their own embedded base, so that a stale one in the user's cache cannot help them pass."""
    if "FACEID_CACHE" not in os.environ:
        os.environ["FACEID_CACHE"] = str(tmp_path_factory.mktemp("faceid_cache"))
    return Path(os.environ["FACEID_CACHE"])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and photos; skips, with the reason, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA} (set FACEID_REAL_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def toy_path(own_cache) -> Path:
    """The embedded base's folder."""
    from faceid.toy.base import resolve_model_path

    return resolve_model_path("toy")


@pytest.fixture
def toy_wan(toy_path):
    """A fresh embedded base in memory: tests may install adapters on it."""
    from faceid.models.wan import load_wan

    return load_wan(toy_path, name="toy")


@pytest.fixture
def small_adapter_settings():
    """An adapter small enough for a test."""
    from faceid.models.settings import AdapterSettings

    return AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, mapper_dropout=0.0)
