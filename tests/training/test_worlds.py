"""One seed, one loss curve: a single process, DDP, ZeRO-2 and ZeRO-3 are the same run."""

import pytest
from launching import IS_SMALL, QUIET, SIZES, SMALL_ADAPTER, losses, train
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.promise("DDP, ZeRO-2, ZeRO-3 and one process: the same losses", bar="relative 1e-5", proof="main"),
    pytest.mark.promise(
        "a single process, DDP, ZeRO-2 and ZeRO-3: the same losses and the same adapter",
        bar="losses within 1e-5, weights within a tenth of a step",
        proof="training",
    ),
]

# 4 clips and 4 photos, 2 at a time: 4 steps an epoch; stage 2 begins before the last one.
EPOCHS = 1 if IS_SMALL else 13 if SIZES == "full" else 2
STEPS = 4 * EPOCHS
# With ZeRO-2, which test_resume, test_launched and the cluster's tests train in as well, in the proofs.
WORLDS = ("single", "cpu", "cpu_zero3") if SIZES == "tests" else ("single", "cpu", "cpu_zero2", "cpu_zero3")
# Of losses, relative. Of weights: a tenth of what one step moves them by. Where a gradient is nothing but rounding Adam
# makes something of it, how much depends on the kind of processor (8e-6 on one, 1.3e-5 on another).
RELATIVE, ADAPTER = 1e-5, 1e-4


@pytest.mark.starts_process
@pytest.mark.slow
def test_ddp_zero2_and_zero3_give_the_losses_of_a_single_process(toy_inputs, tmp_path, record_property):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *f"--batch_size 2 --num_epochs {EPOCHS}".split()]
    flags += f"--freeze_mapper_after_epochs {EPOCHS - 1} --learning_rate 1e-3 --warmup_steps 0 --save_every 100".split()
    curves = {}
    for world in WORLDS:
        train(*flags, "--output_dir", str(tmp_path / world), world=world)
        curves[world] = losses(tmp_path / world)
    reference = curves["single"]
    assert len(reference) == STEPS
    # The curve moves by far more than the tolerance, so that equality says something.
    assert max(reference) - min(reference) > 100 * RELATIVE * max(reference)
    difference = max(abs(a / b - 1) for curve in curves.values() for a, b in zip(curve, reference, strict=True))
    adapters = {world: load_file(tmp_path / world / "face_lora_final.safetensors") for world in curves}
    own = adapters.pop("single")
    apart = max(float((other[name] - own[name]).abs().max()) for other in adapters.values() for name in own)
    said = f"losses {difference:.1e} apart (relative) over {len(reference)} steps, adapters {apart:.1e}"
    record_property("measured", said)
    assert apart <= ADAPTER, said
    for world, curve in curves.items():
        assert curve == pytest.approx(reference, rel=RELATIVE), world
