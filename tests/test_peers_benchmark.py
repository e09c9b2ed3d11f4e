"""The comparison with peers: outputs that differ stop it before anything is timed, and a small one runs."""

import json
import sys

import numpy as np
import pytest
import torch
from launching import run_command

pytestmark = pytest.mark.promise(
    "benchmarks/peers: outputs that differ stop it before anything is timed", bar="all checks pass", proof="model"
)


@pytest.mark.starts_process
@pytest.mark.slow
@pytest.mark.proof_only("a quarter of a minute of a benchmark", proof="model")
def test_the_small_comparison_runs(tmp_path):
    file = tmp_path / "peers.json"
    run_command([sys.executable, "-m", "benchmarks.peers", "--small", "--output", str(file)], timeout_s=120)
    record = json.loads(file.read_text())
    assert record["sizes"] == "small" and record["load_average"] and record["versions"]["diffusers"]
    whats = {row["what"] for row in record["rows"] if row["row"] == "loading"}
    assert len(whats) == 8, "three parts and the whole, in both layouts"
    assert {row["row"] for row in record["rows"]} == {"loading", "sampling", "A11"}
    assert all(min(*row["ours"], *row["theirs"]) > 0 for row in record["rows"])


@pytest.mark.starts_process
def test_outputs_that_differ_stop_the_comparison(tmp_path, monkeypatch, capsys):
    from benchmarks.peers import __main__ as peers
    from benchmarks.peers import sampling

    frames = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    # Renders without a model: what is looked at is what becomes of videos that differ.
    monkeypatch.setattr(sampling, "_write", lambda folder: None)
    monkeypatch.setattr(sampling, "_ours", lambda folder, face_scale, size: lambda: frames)
    monkeypatch.setattr(sampling, "_theirs", lambda size: lambda: frames + 1)

    def no_clock(*_):
        raise AssertionError("timed before the outputs were compared")

    monkeypatch.setattr(sampling, "by_turns", no_clock)
    output = tmp_path / "peers.json"
    assert peers.main(["--small", "--only", "sampling", "--output", str(output)]) == 1
    assert "outputs differ, nothing is compared: video" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"a": torch.tensor([1.0, 2.001])}, "a: "),
        ({"a": torch.tensor([1.0, float("nan")])}, "a: nan"),
        ({"a": torch.tensor([1.0])}, r"a: \[2\] and \[1\]"),
        ({"b": torch.tensor([1.0, 2.0])}, "alone has a"),
    ],
)
def test_tensors_that_differ_are_named(other, said):
    from benchmarks.peers.ratios import DifferentError, largest_error

    ours = {"a": torch.tensor([1.0, 2.0])}
    assert largest_error(ours, {"a": ours["a"].clone()}, 0.0) == 0
    with pytest.raises(DifferentError, match=said):
        largest_error(ours, other, 1e-5)


@pytest.mark.parametrize(
    ("theirs", "verdict"), [((2.0, 2.2), "WIN"), ((0.5, 0.5), "LOSS"), ((1.01, 1.02), "EQUAL"), ((2.0, 0.5), "EQUAL")]
)
def test_a_verdict_needs_both_figures(theirs, verdict):
    from benchmarks.peers.ratios import Ratio

    assert Ratio("A3", "", "", (1.0, 1.0), theirs, "s", "").verdict == verdict


@pytest.mark.starts_process
def test_what_is_mapped_counts_once_and_what_is_copied_is_told_apart(tmp_path):
    from benchmarks.costs import cost_of

    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(64 << 20))

    def map_it():
        mapped = torch.from_file(str(file), size=64 << 20, dtype=torch.uint8)
        mapped[::4096].sum()
        return mapped

    mapped, copied = cost_of(map_it), cost_of(lambda: map_it().clone())
    assert 60 < mapped.peak_mib < 80 and mapped.peak_anonymous_mib < 8
    assert copied.peak_anonymous_mib > 60
