"""A run that shows its photos in its own way goes on where it was, and says before any work what it cannot do."""

import pytest
from calling import call, refused
from launching import QUIET, SMALL_ADAPTER

from faceid.training.measuring.samples import read_samples


def words(toy_inputs, folder, *more):
    asked = "--batch_size 2 --validate_every 0 --save_every 1 --log_samples true".split()
    return [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *asked, *more, "--output_dir", str(folder)]


@pytest.mark.parametrize(
    ("more", "samples"),
    [
        (["--photo_framings", "[photo, head]", "--photo_sizes", "[1.0, 0.5]", "--heldout_photos", "1"], 4 + 3 * 4),
        (["--photo_caption", "a photo of sks"], 4 + 4),
    ],
    ids=["views", "caption"],
)
@pytest.mark.slow
def test_it_goes_on_and_its_dry_run_counts_the_same_samples(toy_inputs, tmp_path, more, samples):
    first, second = (words(toy_inputs, tmp_path, *more, "--num_epochs", str(epochs)) for epochs in (1, 2))
    assert f"an epoch is {samples} samples" in call("train.py", *first, "--dry_run", "true").screen
    assert call("train.py", *first).code == 0
    ended = call("train.py", *second)
    assert ended.code == 0, ended.screen
    assert sum(len(rows) for rows in read_samples(tmp_path / "logs").values()) == 2 * samples
    changed = ["--photo_caption", "another"] if "caption" in more[0] else ["--photo_framings", "[photo]"]
    refused(call("train.py", *words(toy_inputs, tmp_path, *more, *changed, "--num_epochs", "3")), "other photos")


@pytest.mark.parametrize(
    ("encoder", "said"),
    [("onnx:x.onnx", "which have a gradient"), ("clip:no_such_folder", "'no_such_folder' is neither a folder")],
)
def test_a_recogniser_that_cannot_be_is_refused_before_any_work(toy_inputs, tmp_path, encoder, said):
    asked = ("--identity_loss_weight", "0.1", "--identity_loss_encoder", encoder)
    refused(call("train.py", *words(toy_inputs, tmp_path / "run", *asked)), said)
    assert not (tmp_path / "run").exists()


def test_too_many_held_out_photos_are_refused_before_any_work(toy_inputs, tmp_path):
    asked = words(toy_inputs, tmp_path / "run", "--heldout_photos", "2")
    refused(call("train.py", *asked), "heldout_photos=2: of 4 photos 3 must be left")
    assert not (tmp_path / "run" / "cache").exists()
