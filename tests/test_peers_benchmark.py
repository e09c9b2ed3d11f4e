"""The comparison with peers: outputs that differ stop it, losing and missing figures stay, and a small one runs."""

import json
import sys

import pytest
import torch
from launching import REPOSITORY, in_proof_only, run_command


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """benchmarks/ is no package: a benchmark finds the others beside it."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))


@pytest.mark.slow
def test_the_small_comparison_runs_and_gathers_every_row(tmp_path):
    flags = ["--small", "--only", "loading", "reading", "--output_dir", str(tmp_path)]
    run_command([sys.executable, "benchmarks/peers.py", *flags], timeout_s=120)
    record = json.loads((tmp_path / "peers.json").read_text())
    assert record["sizes"] == "small" and record["load_average"] and record["versions"]["diffusers"]
    whats = {row["what"] for row in record["rows"] if row["row"] == "loading"}
    assert len(whats) == 8, "three parts and the whole, in both layouts"
    assert all(min(*row["ours"], *row["theirs"]) > 0 for row in record["rows"])
    assert {f"A{number}" for number in range(1, 14)} <= {line["row"] for line in record["table"]}
    assert {line["verdict"] for line in record["table"] if line["row"] == "A12"} == {"MISSING"}, "not asked for"
    table = (tmp_path / "peers.md").read_text()
    assert all(f"## A{number}:" in table for number in range(1, 14))


@in_proof_only("half a minute of launches", "prove-model")
def test_both_worlds_take_the_same_steps(tmp_path):
    from peers_worlds import OURS, THEIRS, Parameters, compare_worlds
    from safetensors.torch import load_file

    ratios, details = compare_worlds(tmp_path, 1, is_small=True)
    assert [min(*ratio.ours, *ratio.theirs) > 0 for ratio in ratios] == [True, True]
    assert {world: len(found) for world, found in details["spent"].items()} == {OURS: 2, THEIRS: 2}
    moved = load_file(tmp_path / OURS / "9.safetensors")
    begun = dict(Parameters(9, (1 << 16) // 9).named_parameters())
    # Of four steps of AdamW at 1e-3, in which the two processes see other inputs.
    assert all(1e-3 < (moved[name] - begun[name]).abs().max() < 5e-3 for name in begun)


def test_outputs_that_differ_stop_the_comparison(tmp_path, monkeypatch, capsys):
    import peers
    import peers_reading

    read = peers_reading._by_torch

    def read_otherwise(folder):
        for clip in read(folder):
            clip["pose"][0, 0, 0, 0] += 1
            yield clip

    def no_clock(*_):
        raise AssertionError("timed before the outputs were compared")

    monkeypatch.setattr(peers_reading, "_by_torch", read_otherwise)
    monkeypatch.setattr(peers_reading, "cpu_seconds_by_turns", no_clock)
    assert peers.main(["--small", "--only", "reading", "--output_dir", str(tmp_path)]) == 1
    assert "outputs differ, nothing is compared: pose" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_step_of_a_peer_stops_the_comparison(monkeypatch):
    from functools import partial

    import peers_models
    import peers_step
    from peers_ratios import DifferentError, in_a_fork

    sizes = peers_models.Sizes(peers_step.CONFIG, peers_step.SETTINGS, (1, 4, 4), text_tokens=4, face_dim=8)
    ways = {
        "plain, none": partial(peers_models.plain, sizes, False),
        "ours, full": partial(peers_models.ours, sizes, "full"),
    }
    assert in_a_fork(partial(peers_step._compare_outputs, ways))["ours, full"] <= 1e-5

    def with_other_weights(sizes, mode):
        model = peers_models.ours(sizes, mode)
        next(iter(model.lora.values())).data[0, 0] += 0.5
        return model

    ways["ours, full"] = partial(with_other_weights, sizes, "full")
    with pytest.raises(DifferentError):
        in_a_fork(partial(peers_step._compare_outputs, ways))


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
    from peers_ratios import DifferentError, largest_error

    ours = {"a": torch.tensor([1.0, 2.0])}
    assert largest_error(ours, {"a": ours["a"].clone()}, 0.0) == 0
    with pytest.raises(DifferentError, match=said):
        largest_error(ours, other, 1e-5)


@pytest.mark.parametrize(
    ("theirs", "verdict"), [((2.0, 2.2), "WIN"), ((0.5, 0.5), "LOSS"), ((1.01, 1.02), "EQUAL"), ((2.0, 0.5), "EQUAL")]
)
def test_a_verdict_needs_both_figures(theirs, verdict):
    from peers_ratios import Ratio

    assert Ratio("A3", "", "", (1.0, 1.0), theirs, "s", "").verdict == verdict


def test_a_missing_record_is_said_and_a_losing_figure_kept(tmp_path):
    from peers_ratios import Ratio
    from peers_table import gather

    lost = Ratio("A2", "latents", "a peer", (2.0, 2.0), (1.0, 1.0), "s", "equal")
    lines = gather(tmp_path, [lost])
    assert [(line.what, line.verdict) for line in lines if line.record == "peers.json"] == [("latents", "LOSS")]
    assert {line.verdict for line in lines if line.record != "peers.json"} == {"MISSING"}
    (tmp_path / "prove_data.json").write_text(json.dumps({"commit": "abc", "speed": {}}))
    found = [line for line in gather(tmp_path, []) if line.row == "A1"]
    assert [(line.verdict, line.ratio) for line in found] == [("MISSING", "")]
    assert "prove_data.json (abc) has no" in found[0].record


def test_what_is_mapped_counts_once_and_what_is_copied_is_told_apart(tmp_path):
    from peers_ratios import cost_of

    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(64 << 20))

    def map_it():
        mapped = torch.from_file(str(file), size=64 << 20, dtype=torch.uint8)
        mapped[::4096].sum()
        return mapped

    mapped, copied = cost_of(map_it), cost_of(lambda: map_it().clone())
    assert 60 < mapped.peak_mib < 80 and mapped.peak_anonymous_mib < 8
    assert copied.peak_anonymous_mib > 60
