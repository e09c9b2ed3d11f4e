"""One seed, one loss curve: a single process, DDP, ZeRO-2 and ZeRO-3 are the same run."""

import pytest
from launching import QUIET, SMALL_ADAPTER, losses, train

STEPS = 10
RELATIVE = 1e-5


@pytest.mark.slow
def test_ddp_zero2_and_zero3_give_the_losses_of_a_single_process(toy_inputs, tmp_path):
    # 4 clips and 4 photos, 2 at a time: 4 steps an epoch; stage 2 begins after the second.
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 2 --num_epochs 3".split()]
    flags += "--freeze_mapper_after_epochs 2 --learning_rate 1e-2 --warmup_steps 0 --save_every 100".split()
    curves = {}
    for world in ("single", "cpu", "cpu_zero2", "cpu_zero3"):
        train(*flags, "--output_dir", str(tmp_path / world), world=world)
        curves[world] = losses(tmp_path / world)
    reference = curves["single"]
    assert len(reference) >= STEPS
    # The curve moves by far more than the tolerance, so that equality says something.
    assert max(reference) - min(reference) > 100 * RELATIVE * max(reference)
    for world, curve in curves.items():
        assert curve == pytest.approx(reference, rel=RELATIVE), world
