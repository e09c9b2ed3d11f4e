"""Training with compiled blocks, as configs/wan_vace_1_3b.yaml has it: the same losses, and nothing left uncompiled."""

from __future__ import annotations

import pytest
from launching import QUIET, SMALL_ADAPTER, losses, train

pytestmark = pytest.mark.promise(
    ("compiled training (as configs/wan_vace_1_3b.yaml), two ZeRO-2 processes, with a validation that renders"),
    bar="losses within 1e-4, torch's limit of variants not met",
    proof="model",
)


@pytest.mark.starts_process
@pytest.mark.proof_only("compiles for two minutes", proof="model")
def test_a_compiled_run_has_the_losses_of_another_and_compiles_every_kind_of_block(
    toy_inputs, tmp_path, monkeypatch, record_property
):
    """Clips, photos of two sizes, references, and a validation that renders: torch would stop at 8 variants."""
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--validate_every 1 --validation_steps 2".split()]
    flags += "--batch_size 4 --num_epochs 2 --freeze_mapper_after_epochs 1 --face_modulation true".split()
    flags += "--target_words 4 --target_tokens true --reference_share 0.5 --photo_shift 1".split()
    flags += ["--photo_framings", "[photo, head]", "--photo_sizes", "[1.0, 0.5]"]
    flags += ["--gradient_checkpointing", "attention"]
    train(*flags, "--output_dir", str(tmp_path / "plain"), world="cpu_zero2")
    # Says each variant that is compiled beside the first.
    monkeypatch.setenv("TORCH_LOGS", "recompiles")
    done = train(*flags, "--compile", "true", "--output_dir", str(tmp_path / "compiled"), world="cpu_zero2")
    said = done.stderr + done.stdout
    assert "recompile_limit" not in said and said.count("Recompiling function") > 8
    plain, compiled = losses(tmp_path / "plain"), losses(tmp_path / "compiled")
    apart = max(abs(a / b - 1) for a, b in zip(compiled, plain, strict=True))
    record_property("measured", f"{len(plain)} losses {apart:.1e} apart (relative), no variant left uncompiled")
    assert apart < 1e-4
