"""The benchmark for a GPU is tried here on the CPU: nothing but kernels may fail there for the first time."""

import json
import sys

import pytest
import torch
from launching import run_command

from faceid.errors import ConfigError

pytestmark = pytest.mark.promise(
    "benchmarks/gpu: every section at a tiny size on the CPU, each variant against its reference",
    bar="all checks pass",
    proof="model",
)


@pytest.fixture
def gpu_model():
    """Its sizes and random weights."""
    from benchmarks.gpu import model

    return model


@pytest.fixture
def bench(gpu_model, tmp_path):
    from benchmarks.gpu.bench import Bench

    return Bench(gpu_model.TINY, torch.device("cpu"), tmp_path / "gpu.json", repeats=1)


def test_the_sizes_are_the_real_models(gpu_model, real_data):
    from faceid.models.base import wan

    theirs = json.loads((real_data / "wan" / "wan21_vace_1.3b_transformer_config.json").read_text())
    ours = json.loads(json.dumps(gpu_model.VACE_1_3B))
    assert {key: theirs[key] for key in ours} == ours
    assert {
        key: value for key, value in theirs.items() if key not in ours and value is not None and key[0] != "_"
    } == {}
    theirs = json.loads((real_data / "wan" / "wan21_vae_config_diffusers_default.json").read_text())
    with torch.device("meta"):
        vae = wan.AutoencoderKLWan(**gpu_model.REAL.vae)
    ours = json.loads(json.dumps(dict(vae.config)))
    assert {key: ours[key] for key in theirs if key[0] != "_"} == {k: v for k, v in theirs.items() if k[0] != "_"}


def test_random_weights_have_a_loaded_models_dtypes_and_are_never_zero(gpu_model, toy_path):
    from faceid.models.base.wan import load_wan

    loaded = load_wan(toy_path, ("transformer",), dtype=torch.bfloat16).transformer
    made = gpu_model.random_transformer(gpu_model.TINY, torch.device("cpu"))
    assert [(n, p.dtype, p.shape) for n, p in made.named_parameters()] == [
        (n, p.dtype, p.shape) for n, p in loaded.named_parameters()
    ]
    adapter = gpu_model.random_adapter(gpu_model.TINY, made)
    assert all(p.float().abs().mean() > 0.01 for p in [*made.parameters(), *adapter.parameters().values()])
    exact = gpu_model.random_transformer(gpu_model.TINY, torch.device("cpu"), torch.float32)
    gpu_model.random_adapter(gpu_model.TINY, exact)
    twins = dict(exact.named_parameters())
    assert all(torch.equal(p.float(), twins[n]) for n, p in made.named_parameters())


@pytest.mark.slow
def test_what_fails_is_recorded_in_a_line_and_the_rest_goes_on(bench):
    def fail():
        raise RuntimeError("no kernel\nfor this")

    bench.attempt("a", "fails", fail)
    bench.attempt("a", "is wrong", lambda: {"error": 1.0, "wrong": True})
    bench.attempt("a", "works", lambda: {"step_s": 2.0})
    rows = {row["name"]: row for row in json.loads(bench.file.read_text())["rows"]}
    assert [row["status"] for row in rows.values()] == ["error", "wrong", "ok"]
    assert rows["fails"]["error"] == "RuntimeError: no kernel for this"
    assert bench.find("a", "works")["step_s"] == 2.0 and bench.find("a", "is wrong") == {}


@pytest.mark.slow
def test_a_goal_is_told_from_what_was_right(bench):
    from benchmarks.gpu.tables import print_goals

    right = {"peak_gb": 17.0, "mfu": 0.4, "wrong": False}
    bench.attempt("training", "9 frames, full, eager, native", lambda: {"step_s": 2.5, **right, "peak_gb": 14.0})
    bench.attempt("training", "9 frames, attention, eager, native", lambda: {"step_s": 1.5, **right})
    bench.attempt("training", "9 frames, attention, compiled, native", lambda: {"step_s": 0.5, **right, "wrong": True})
    goals = print_goals(bench)["goals"]
    assert goals[0]["measured"].startswith("1.5 (training: 9 frames, attention, eager")
    assert [goal["verdict"] for goal in goals] == ["tiny"] * len(goals)


def test_a_tiny_run_does_not_overwrite_a_real_ones_record(gpu_model, tmp_path):
    from benchmarks.gpu.__main__ import Settings, make_bench

    file = tmp_path / "gpu.json"
    file.write_text('{"is_tiny": false}')
    with pytest.raises(ConfigError, match="is of a real run"):
        make_bench(Settings(tiny=True, record=file))


@pytest.mark.starts_process
@pytest.mark.proof_only("compiles for a minute", proof="model")
def test_a_tiny_run_measures_and_records(tmp_path):
    file = tmp_path / "tiny.json"
    flags = ["--tiny", "true", "--repeats", "1", "--frames", "[9]", "--record", str(file)]
    sections = ("training", "sampling", "loader", "vae", "video", "offload")
    only = f"[{', '.join(sections)}]"
    run_command([sys.executable, "-m", "benchmarks.gpu", *flags, "--only", only], timeout_s=300)
    record = json.loads(file.read_text())
    assert record["is_tiny"] and record["versions"]["torch"] and record["command"][0] == "benchmarks.gpu"
    assert [row["name"] for row in record["rows"] if row["status"] != "ok"] == []
    found = {(row["section"], row["name"]): row for row in record["rows"]}
    assert {section for section, _ in found} == set(sections)
    kept = found["training", "9 frames, attention, eager, native"]
    assert kept["same_to_the_bit"] and kept["step_s"] > 0
    # The graphs do not grow with the number of blocks.
    assert found["training", "9 frames, attention, compiled, native"]["graphs"] <= 4
    assert found["offload", "9 frames, eager, native, offloaded"]["error"] == 0
    assert 0 < found["loader", "9 frames, attention, eager, native"]["stall_share"] < 1
