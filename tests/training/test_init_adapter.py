"""A run that begins with another adapter's weights: only with one that fits, and only its weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from calling import command_module
from launching import QUIET, SMALL_ADAPTER, train
from safetensors.torch import load_file
from written_identities import write_identity

from faceid.config import build_section
from faceid.data.clip_settings import CaptionSettings, ClipSettings
from faceid.errors import ConfigError, ModelError
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter, save_adapter
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.toy.shipped import resolve_encoder_path
from faceid.training.checks.refusals import check_before_work
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.input_settings import InputSettings
from faceid.training.inputs.prepare import prepare

DIM = 24
SETTINGS_KEYS = {
    "lora_rank": 8,
    "num_tokens": 2,
    "conditioning_dim": 48,
    "mapper_hidden_dim": 40,
    "num_mapper_layers": 3,
    "lora_branch": "both",
    "lora_layers": "linear",
    "face_attention_every": 2,
    "face_modulation": True,
    "lora_alpha": 8.0,
}


@pytest.fixture
def published(toy_wan, small_adapter_settings, tmp_path):
    """An adapter of the toy base, and what it says of itself."""
    tensors = adapter_tensors(install_adapter(toy_wan.transformer, small_adapter_settings, DIM))
    metadata = AdapterMetadata(
        base_name="toy",
        base_fingerprint=toy_wan.fingerprint,
        face_embedding_dim=DIM,
        encoder="clip",
        encoder_fingerprint="e" * 64,
        settings=small_adapter_settings,
    )
    return tensors, metadata


@pytest.fixture
def plan_with(toy_path, published, small_adapter_settings, tmp_path):
    """Makes the plan of a run that begins with the published adapter, but for what its metadata is changed to."""
    identity = write_identity(tmp_path / "identity", size=DIM)

    def make(adapter_settings=small_adapter_settings, **changes):
        save_adapter(tmp_path / "init.safetensors", published[0], replace(published[1], **changes))
        inputs = InputSettings(
            model_path="toy",
            output_dir=str(tmp_path / "run"),
            face_embedding=str(identity),
            dance_videos_dir=str(tmp_path),
            pose_videos_dir=str(tmp_path),
        )
        return InputPlan(
            inputs,
            adapter_settings,
            ClipSettings(num_frames=9, height=64, width=64),
            CaptionSettings(),
            FaceSettings(),
            toy_path,
            tmp_path / "init.safetensors",
        )

    return make


def test_a_fitting_adapter_is_accepted_whatever_its_dropout(plan_with, small_adapter_settings):
    check_before_work(plan_with())
    check_before_work(plan_with(replace(small_adapter_settings, mapper_dropout=0.3)))
    # Alpha counts by the LoRA's weight, and said or not it is the rank.
    check_before_work(plan_with(replace(small_adapter_settings, lora_alpha=4.0)))


def test_an_adapter_of_another_base_is_refused_by_name(plan_with):
    with pytest.raises(ModelError, match=r"init_adapter=.*init\.safetensors: trained on base Other"):
        check_before_work(plan_with(base_name="Other", base_fingerprint="0" * 64))


@pytest.mark.parametrize("key", SETTINGS_KEYS)
def test_an_adapter_of_another_size_is_refused_by_the_setting_and_its_value(plan_with, small_adapter_settings, key):
    other = build_section(type(small_adapter_settings), {**vars(small_adapter_settings), key: SETTINGS_KEYS[key]})
    expected = getattr(small_adapter_settings, key) if key != "lora_alpha" else 4.0
    with pytest.raises(ConfigError) as refusal:
        check_before_work(plan_with(other))
    assert str(refusal.value).startswith(f"{key}={SETTINGS_KEYS[key]}: init_adapter=")
    assert f"give --{key} {expected}, or leave out --init_adapter" in str(refusal.value)


def test_every_size_of_an_adapter_is_checked(small_adapter_settings):
    assert set(SETTINGS_KEYS) == set(vars(small_adapter_settings)) - {
        "mapper_dropout",
        "target_tokens",
        "target_words",
        "__pydantic_initialised__",
    }


def test_all_sizes_that_differ_are_named_at_once(plan_with, small_adapter_settings):
    with pytest.raises(ConfigError, match=r"num_tokens=2, lora_rank=8: .* give --num_tokens 3 --lora_rank 4, or"):
        check_before_work(plan_with(replace(small_adapter_settings, lora_rank=8, num_tokens=2)))


def test_an_adapter_of_another_encoder_is_refused(plan_with):
    with pytest.raises(ModelError, match=r"trained with encoder clip \(f{12}\), the identity is by clip \(e{12}\)"):
        check_before_work(plan_with(encoder_fingerprint="f" * 64))


def test_an_adapter_of_another_embedding_size_is_refused(plan_with, published):
    first = "face_mapper.layers.0.weight"
    published[0][first] = published[0][first][:, :23]
    with pytest.raises(ModelError, match="face embeddings of 23 numbers, the identity has 24"):
        check_before_work(plan_with(face_embedding_dim=23))


def test_a_file_that_is_no_adapter_is_refused_under_the_flags_name(plan_with, tmp_path):
    plan = plan_with()
    (tmp_path / "init.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(ModelError, match=r"^init_adapter=.*damaged"):
        check_before_work(plan)
    (tmp_path / "init.safetensors").unlink()
    with pytest.raises(ModelError, match=r"^init_adapter=.*no such file"):
        check_before_work(replace(plan))


def test_with_photos_alone_the_encoder_is_checked_before_a_photo_is_read(plan_with, tmp_path):
    plan = plan_with(encoder_fingerprint="f" * 64)
    photos = {"face_embedding": None, "face_images_dir": str(tmp_path / "absent")}
    inputs, faces = replace(plan.inputs, **photos), FaceSettings(encoder_path=resolve_encoder_path("toy"))
    with pytest.raises(ModelError, match="trained with encoder clip"):
        prepare(replace(plan, inputs=inputs, faces=faces), "cpu")


def test_toy_names_the_adapter_that_is_shipped(plan_with, tmp_path, monkeypatch):
    from faceid.training.inputs import input_plan

    command = command_module("train.py")
    inputs = plan_with(base_name="Other", base_fingerprint="0" * 64).inputs
    monkeypatch.setattr(input_plan, "resolve_adapter_path", {"toy": str(tmp_path / "init.safetensors")}.get)
    folders = [
        f"--{name}={getattr(inputs, name)}" for name in ("face_embedding", "dance_videos_dir", "pose_videos_dir")
    ]
    with pytest.raises(ModelError, match=r"init_adapter=.*init\.safetensors: trained on base Other"):
        command.main([*SMALL_ADAPTER, *folders, "--output_dir", inputs.output_dir, "--init_adapter", "toy"])
    assert not Path(inputs.output_dir).exists()


# 4 clips and 4 photos in one step, at a learning rate that changes no number.
ONE_STEP = "--batch_size 8 --num_epochs 1 --learning_rate 1e-30 --warmup_steps 0".split()


def flags(toy_inputs, folder, *more):
    return [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--output_dir", str(folder), *map(str, more)]


@pytest.fixture(scope="module")
def stage_one(toy_inputs, tmp_path_factory):
    """A finished run of four steps, whose adapter others begin with."""
    folder = tmp_path_factory.mktemp("stage_one") / "run"
    train(*flags(toy_inputs, folder, *"--batch_size 4 --num_epochs 2 --learning_rate 1e-2 --warmup_steps 0".split()))
    return folder


@pytest.fixture(scope="module")
def stage_two(toy_inputs, stage_one, tmp_path_factory):
    """One step from there."""
    folder = tmp_path_factory.mktemp("stage_two") / "run"
    train(*flags(toy_inputs, folder, *ONE_STEP, "--init_adapter", stage_one / "face_lora_final.safetensors"))
    return folder


def assert_equal_adapters(first: Path, second: Path) -> None:
    ours, theirs = (read_adapter(file)[0] for file in (first, second))
    assert ours.keys() == theirs.keys()
    for name in ours:
        # 1e-30 a step is what an exact zero may become.
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-29)


@pytest.mark.starts_process
@pytest.mark.slow
def test_the_first_step_begins_with_the_weights_of_the_initial_adapter(toy_inputs, stage_one, stage_two, tmp_path):
    assert_equal_adapters(stage_two / "face_lora_final.safetensors", stage_one / "face_lora_final.safetensors")
    train(*flags(toy_inputs, tmp_path / "fresh", *ONE_STEP))
    fresh = read_adapter(tmp_path / "fresh" / "face_lora_final.safetensors")[0]
    trained = read_adapter(stage_two / "face_lora_final.safetensors")[0]
    assert any(not torch.allclose(fresh[name], trained[name]) for name in trained)


@pytest.mark.starts_process
@pytest.mark.promise(
    ("a step that is not finite teaches nothing, in ZeRO-2, too; an adapter to begin with is taken exactly in bf16"),
    bar="all checks pass",
    proof="training",
    full=True,
)
@pytest.mark.proof_only("half a minute", proof="training", full=True)
def test_a_pth_under_zero_in_bfloat16_begins_as_exactly(toy_inputs, stage_one, tmp_path):
    """DeepSpeed makes its float32 masters of the rounded weights: 0.4 % away, if they are not set again."""
    more = ("--init_adapter", stage_one / "face_lora_final.pth", "--mixed_precision", "bf16")
    train(*flags(toy_inputs, tmp_path / "run", *ONE_STEP, *more), world="cpu_zero2")
    final = tmp_path / "run" / "face_lora_final.safetensors"
    assert_equal_adapters(final, stage_one / "face_lora_final.safetensors")


@pytest.mark.starts_process
@pytest.mark.slow
def test_steps_and_moments_begin_anew(stage_one, stage_two):
    assert read_adapter(stage_one / "face_lora_final.safetensors")[1].step == 4
    assert read_adapter(stage_two / "face_lora_final.safetensors")[1].step == 1
    checkpoint = stage_two / "checkpoints" / "step_00000001"
    mean, square = (load_file(checkpoint / f"{name}.safetensors") for name in ("exp_avg", "exp_avg_sq"))
    # From zero, one step leaves 0.1 g and 0.001 g^2.
    for name in mean:
        torch.testing.assert_close((mean[name] / 0.1).square() * 0.001, square[name], rtol=1e-4, atol=1e-30)


@pytest.mark.starts_process
@pytest.mark.slow
def test_a_resume_wants_the_same_initial_adapter_and_goes_on_from_the_checkpoint(toy_inputs, stage_one, stage_two):
    final, earlier = (stage_one / f"face_lora_{name}.safetensors" for name in ("final", "epoch_1"))
    assert final.is_file()
    again = train(*flags(toy_inputs, stage_two, *ONE_STEP, "--init_adapter", final))
    assert "1 steps done" in again.stderr and "starting with the weights" not in again.stderr
    left_out = train(*flags(toy_inputs, stage_two, *ONE_STEP), expect=2)
    assert "init_adapter was " in left_out.stderr and "now none" in left_out.stderr
    tensors, metadata = read_adapter(final)
    save_adapter(earlier, tensors, replace(metadata, step=3))
    other = train(*flags(toy_inputs, stage_two, *ONE_STEP, "--init_adapter", earlier), expect=2)
    assert f"now {earlier}" in other.stderr and "choose another output_dir" in other.stderr
    changed = train(*flags(toy_inputs, stage_one, "--batch_size", "4", "--init_adapter", final), expect=2)
    assert "init_adapter was none" in changed.stderr
