"""tools/convert_model.py and tools/export_lora.py, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from calling import call
from diffusers import WanVACEPipeline
from original_layout import write_both
from safetensors.torch import save_file

from faceid.models.adapter.adapter_file import read_adapter
from faceid.models.base.wan import load_wan
from faceid.models.lora.lora_formats import lora_of_adapter, read_lora
from faceid.toy.shipped import resolve_adapter_path

pytestmark = pytest.mark.promise(
    "the adapter as a hub folder with a model card; the tools as typed", bar="all checks pass", proof="model"
)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    return write_both(tmp_path_factory.mktemp("layouts"))


def tool(name: str, *words: object, expect: int = 0) -> str:
    ended = call(f"tools/{name}.py", *words)
    assert ended.code == expect, ended.screen
    return ended.screen


@pytest.mark.slow
def test_a_base_is_converted_to_what_diffusers_loads(both, tmp_path):
    ours, theirs = both
    words = ("--model_path", theirs, "--output_dir", tmp_path / "new")
    assert "iB to write" in tool("convert_model", *words, "--dry_run", "true") and not (tmp_path / "new").exists()
    assert "every tensor is the same" in tool("convert_model", *words)
    pipeline, expected = WanVACEPipeline.from_pretrained(tmp_path / "new"), load_wan(ours)
    for part in ("transformer", "vae", "text_encoder"):
        mine, other = getattr(pipeline, part).state_dict(), getattr(expected, part).state_dict()
        assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in other)
    assert pipeline.scheduler.config.flow_shift == 3.0
    again = load_wan(tmp_path / "new")
    assert all(torch.equal(t, again.transformer.state_dict()[n]) for n, t in expected.transformer.state_dict().items())
    said = tool("convert_model", *words, expect=2)
    assert f"output_dir={tmp_path}/new: exists" in said


@pytest.mark.parametrize("kind", ["diffusers", "kohya"])
def test_the_lora_of_the_shipped_adapter_is_exported(kind, tmp_path):
    said = tool("export_lora", "--face_lora_path", "toy", "--lora_format", kind, "--output", tmp_path / "x.safetensors")
    assert "only the LoRA is in it: mapper, face attention and a person's own words" in said
    tensors, metadata = read_adapter(Path(resolve_adapter_path("toy")))
    lora, found = lora_of_adapter(tensors, metadata.settings.alpha), read_lora(tmp_path / "x.safetensors")
    assert found.keys() == lora.keys() and all(torch.equal(found[n].up, lora[n].up) for n in lora)


def test_another_tool_s_lora_is_renamed_and_its_vace_layers_are_spoken_of(tmp_path):
    names = ("blocks.0.self_attn.q", "vace_blocks.0.cross_attn.o")
    given = {f"{n}.lora_A.default.weight": torch.randn(2, 8) for n in names}
    given |= {f"{n}.lora_B.default.weight": torch.randn(8, 2) for n in names}
    save_file(given, tmp_path / "diffsynth.safetensors")
    words = (
        "--lora",
        tmp_path / "diffsynth.safetensors",
        "--lora_format",
        "kohya",
        "--output",
        tmp_path / "k.safetensors",
    )
    assert "1 of 2 layers are of VACE blocks: musubi-tuner has no VACE branch" in tool("export_lora", *words)
    found = read_lora(tmp_path / "k.safetensors")
    assert torch.equal(
        found["vace_blocks.0.attn2.to_out.0"].down, given["vace_blocks.0.cross_attn.o.lora_A.default.weight"]
    )


def test_the_whole_adapter_and_merged_weights_are_folders(tmp_path):
    tool("export_lora", "--face_lora_path", "toy", "--lora_format", "hub", "--output", tmp_path / "hub")
    assert json.loads((tmp_path / "hub" / "adapter_config.json").read_text())["base_name"] == "toy"
    # What it wrote is taken where an adapter is.
    words = ("--face_lora_path", tmp_path / "hub", "--lora_format", "merged", "--output", tmp_path / "merged")
    tool("export_lora", *words)
    assert (tmp_path / "merged" / "config.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--lora_format", "diffusers", "--output", "x.safetensors"),
            "face_lora_path: give either an adapter, or --lora",
        ),
        (("--face_lora_path", "toy", "--lora_format", "comfy", "--output", "x.safetensors"), "comfyui"),
        (("--face_lora_path", "toy", "--lora_format", "kohya", "--output", "x.pt"), "must end with .safetensors"),
        (("--lora", "absent", "--lora_format", "hub", "--output", "x"), "has no face mapper"),
        (("--lora", "absent", "--lora_format", "kohya", "--output", "x.safetensors"), "lora=absent: no such file"),
    ],
)
def test_what_cannot_be_exported_is_one_line(words, said):
    told = tool("export_lora", *words, expect=2)
    assert said in told and "Traceback" not in told
