"""What an adapter file says of itself is bounded and held against its tensors; of its author it says nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from calling import call, refused
from measured_memory import begin_peak_anew, peak_bytes
from safetensors import safe_open
from safetensors.torch import save_file

from faceid.errors import ModelError
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter, save_adapter
from faceid.models.adapter.adapter_folder import write_adapter_folder
from faceid.models.adapter.adapter_metadata import FORMAT
from faceid.models.adapter.face_tokens import FaceConditioningBlock
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.local_places import place_of, published_name

SETTINGS = AdapterSettings(conditioning_dim=12, mapper_hidden_dim=16, num_tokens=3, lora_rank=4, lora_alpha=2.0)
METADATA = AdapterMetadata(
    base_name="toy",
    base_fingerprint="b" * 64,
    face_embedding_dim=24,
    encoder="clip",
    encoder_fingerprint="e" * 64,
    settings=SETTINGS,
    fps=16.0,
)


def tensors() -> dict[str, torch.Tensor]:
    """Of an adapter of a transformer with one block, on no particular base."""
    mapper = FaceConditioningBlock(24, 12, 16, 2, 3, lora_rank=4)
    found = {f"face_mapper.{name}": tensor.detach() for name, tensor in mapper.named_parameters()}
    found |= {f"face_attention.0.{name}.weight": torch.ones(32, 12) for name in ("key", "value")}
    for layer in (
        f"{attention}.{each}" for attention in ("attn1", "attn2") for each in ("to_q", "to_k", "to_v", "to_out.0")
    ):
        found[f"transformer.blocks.0.{layer}.lora_A.weight"] = torch.ones(4, 32)
        found[f"transformer.blocks.0.{layer}.lora_B.weight"] = torch.ones(32, 4)
    return found


def described(**changes) -> dict:
    """A description with keys changed, those of the settings among them; one changed to ... is left out."""
    content = json.loads(json.dumps(METADATA.published()))
    for name, value in changes.items():
        place = content["settings"] if name in content["settings"] else content
        place[name] = value
        if value is ...:
            del place[name]
    return content


def write(path: Path, content: object) -> Path:
    if path.suffix == ".pth":
        torch.save({"tensors": tensors(), "metadata": content}, path)
    else:
        save_file(tensors(), path, metadata={"faceid": content if isinstance(content, str) else json.dumps(content)})
    return path


@pytest.fixture(params=[".safetensors", ".pth"])
def path(request, tmp_path) -> Path:
    return tmp_path / f"a{request.param}"


CANNOT_BE = {
    "lora_rank": (10**9, -1, 0, 8192, 5, "4x", None, [4]),
    "lora_alpha": (float("inf"), float("nan"), -2.0, 0, 1e300),
    "num_mapper_layers": (10**6, 3, 1),
    "num_tokens": (10**9, 4),
    "conditioning_dim": (10**9, 13),
    "mapper_hidden_dim": (10**9, 17),
    "mapper_dropout": (float("nan"), 1.0),
    "face_attention_every": (0,),
    "lora_branch": ("all",),
    "face_embedding_dim": (10**9, 25, -1, True),
    "fps": (-1, float("inf"), float("nan")),
    "num_frames": (-1, 10**9),
    "height": (-1, 10**9),
    "step": (-1, 10**18),
    "base_name": ("x" * 5000, "a\nb", None, 7),
    "base_fingerprint": ("x" * 5000, "../x y", ...),
    "encoder_path": ("x" * 5000, ["a"]),
    "expert": ("all",),
    "settings": ([], "x", ...),
}


@pytest.mark.fault("A4")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CANNOT_BE.items() for value in values])
def test_what_cannot_be_is_refused_by_its_name_before_anything_is_allocated(name, value, path):
    write(path, described(**{name: value}))
    begin_peak_anew()
    before = peak_bytes()
    with pytest.raises(ModelError) as error:
        read_adapter(path, "init_adapter")
    assert peak_bytes() - before < 100_000_000
    said = str(error.value)
    assert said.startswith(f"init_adapter={path}: ") and "\n" not in said and len(said) < 600
    sizes = (
        "lora_rank",
        "num_mapper_layers",
        "num_tokens",
        "conditioning_dim",
        "mapper_hidden_dim",
        "face_embedding_dim",
    )
    assert name in said or (name in sizes and ("its settings" in said))


@pytest.mark.fault("A4")
@pytest.mark.parametrize("where", ["settings", "top"])
@pytest.mark.parametrize("value", [1, True, "x", [0], {"a": 1}])
def test_a_key_that_is_not_known_is_refused(where, value, path):
    content = described()
    (content["settings"] if where == "settings" else content)["lora_rankk"] = value
    with pytest.raises(
        ModelError, match=r"metadata 'lora_rankk'=.*unknown key; " + ("did" if where == "settings" else "")
    ):
        read_adapter(write(path, content))


@pytest.mark.fault("A4")
@pytest.mark.parametrize("off", [None, False, 0, "", [], {}])
def test_a_later_version_s_key_that_is_off_is_nothing(off, path):
    content = described()
    content["later"] = content["settings"]["later"] = off
    assert read_adapter(write(path, content))[1] == METADATA


@pytest.mark.fault("A4")
def test_files_from_before_a_key_was_kept_are_read(path):
    content = described(dataset_sha256=..., expert=..., encoder_path=..., fps=..., face_modulation=..., lora_layers=...)
    assert read_adapter(write(path, content))[1] == replace(METADATA, fps=0.0)


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "{" + '"a":' * 1000, '{"format": NaN}', "7", "null", '"x"', json.dumps({"x": "y" * (2 << 20)})],
)
def test_a_description_that_is_none_is_refused_in_one_line(content, tmp_path):
    with pytest.raises(ModelError) as error:
        read_adapter(write(tmp_path / "a.safetensors", content))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.fault("A4")
def test_a_view_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    large = tensors() | {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 1).expand(4, 10**9)}
    torch.save({"tensors": large, "metadata": described()}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="of more numbers than are stored"):
        read_adapter(tmp_path / "a.pth")


@pytest.mark.fault("A4")
def test_damaged_files_are_refused_in_one_line_whatever_byte_is_off(path):
    """Whole, they are read; with a few bytes changed or cut they are read or refused, and nothing else happens."""
    save_adapter(path, tensors(), METADATA)
    data, generator = path.read_bytes(), torch.Generator().manual_seed(0)
    head = min(len(data), 4000)
    for number in range(150):
        place, value = (int(torch.randint(size, (), generator=generator)) for size in (head, 256))
        place = len(data) - 1 - place if path.suffix == ".pth" and number % 2 else place
        damaged = data[:place] if number % 10 == 0 else data[:place] + bytes([value]) + data[place + 1 :]
        path.write_bytes(damaged)
        try:
            read_adapter(path)
        except ModelError as error:
            assert "\n" not in str(error)


@pytest.mark.fault("A3")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.float64])
def test_an_adapter_stored_narrower_is_read(dtype, path):
    save_adapter(path, tensors(), METADATA)
    stored = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    if path.suffix == ".pth":
        torch.save({"tensors": stored, "metadata": described()}, path)
    else:
        save_file(stored, path, metadata={"faceid": json.dumps(described())})
    read = read_adapter(path)[0]
    assert all(torch.equal(read[name].float(), stored[name].float()) for name in stored)
    assert all((tensor + 1).dtype != torch.float8_e4m3fn for tensor in read.values())


@pytest.mark.fault("A3")
def test_an_adapter_of_whole_numbers_is_refused(tmp_path):
    stored = tensors() | {"face_mapper.null_tokens": torch.ones(3, 12, dtype=torch.int8)}
    save_file(stored, tmp_path / "a.safetensors", metadata={"faceid": json.dumps(described())})
    with pytest.raises(ModelError, match=r"face_mapper\.null_tokens is int8; quantised weights are not read"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.fault("M14")
def test_an_adapter_with_a_number_that_is_none_is_refused_by_the_tensor(path):
    stored = tensors()
    stored["face_attention.0.key.weight"][1, 2] = float("inf")
    if path.suffix == ".pth":
        torch.save({"tensors": stored, "metadata": described()}, path)
    else:
        save_file(stored, path, metadata={"faceid": json.dumps(described())})
    with pytest.raises(ModelError, match=r"face_attention\.0\.key\.weight has 1 of 384 numbers that are not finite"):
        read_adapter(path)


# --- places of the author's machine ----------------------------------------------------------------------------------


@pytest.mark.fault("A5")
@pytest.mark.parametrize(
    ("given", "is_base", "name"),
    [
        ("toy", True, "toy"),
        ("models/Wan-AI/Wan2.1-VACE-1.3B", True, "Wan-AI/Wan2.1-VACE-1.3B"),
        ("/home/anna/models/Wan-AI/Wan2.1-VACE-1.3B/", True, "Wan-AI/Wan2.1-VACE-1.3B"),
        ("/home/anna/wan", True, "wan"),
        ("anna/wan", True, "wan"),
        ("../anna/wan", True, "wan"),
        ("~/wan", True, "wan"),
        ("/c/hub/models--Wan-AI--Wan2.1-VACE-14B-diffusers/snapshots/0a1b", True, "Wan-AI/Wan2.1-VACE-14B-diffusers"),
        ("openai/clip-vit-large-patch14", False, "openai/clip-vit-large-patch14"),
        ("/home/anna/clip", False, "clip"),
        ("~/faces/w600k.onnx", False, "w600k.onnx"),
        ("a/b/c", False, "c"),
    ],
)
def test_a_model_is_published_by_its_name(given, is_base, name):
    assert published_name(given, is_base) == name


def everything_in(folder: Path) -> str:
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.append(file.read_bytes().decode("latin1"))
    return "\n".join(found)


@pytest.fixture
def home(tmp_path) -> Path:
    """Of an author, whose name nobody shall read."""
    folder = tmp_path / "home_of_anna"
    (folder / "clip").mkdir(parents=True)
    (folder / "wan").mkdir()
    return folder


@pytest.mark.fault("A5")
def test_what_is_published_carries_no_place_of_the_author_s_machine(home, path):
    metadata = replace(METADATA, base_name=str(home / "wan"), encoder_path=str(home / "clip"))
    save_adapter(path, tensors(), metadata)
    write_adapter_folder(path, path.parent / "hub", "A")
    # From before, with places in it: the folder that is published of it has none.
    old = home / f"old{path.suffix}"
    write(old, {**METADATA.published(), "base_name": str(home / "wan"), "encoder_path": str(home / "clip")})
    assert read_adapter(old)[1] == metadata
    write_adapter_folder(old, path.parent / "hub_of_old", "A")
    for folder in ("hub", "hub_of_old"):
        said = everything_in(path.parent / folder)
        assert "anna" not in said and str(path.parent) not in said
        card = (path.parent / folder / "README.md").read_text()
        assert "base_model: wan" in card and "| face encoder | clip, clip (fingerprint" in card
    assert b"anna" not in path.read_bytes()


@pytest.mark.fault("A5")
def test_in_its_run_folder_an_adapter_finds_base_and_encoder(home, tmp_path):
    """The run's own config.yaml, which nobody publishes, says where."""
    metadata = replace(METADATA, base_name=str(home / "wan"), encoder_path=str(home / "clip"))
    run = tmp_path / "run"
    save_adapter(run / "face_lora_final.safetensors", tensors(), metadata)
    config = f"model_path: {home}/wan\nencoder_path: {home}/clip\nnum_epochs: 3\n"
    (run / "config.yaml").write_text(config)
    assert read_adapter(run / "face_lora_final.safetensors")[1] == metadata
    # Another base's place, or a file that is no config, is none of its.
    for other in (config.replace("wan", "another"), "- a\n", "a: [", "model_path: " + "[" * 5000, "model_path: a: b\n"):
        (run / "config.yaml").write_text(other)
        assert read_adapter(run / "face_lora_final.safetensors")[1].base_name == "wan"


@pytest.mark.fault("A5")
def test_a_base_in_the_usual_place_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "Wan-AI" / "Wan2.1-VACE-1.3B").mkdir(parents=True)
    (tmp_path / "models" / "toy").mkdir()  # the embedded one is meant all the same
    found = place_of("Wan-AI/Wan2.1-VACE-1.3B", tmp_path / "a.safetensors", "model_path")
    assert found == "models/Wan-AI/Wan2.1-VACE-1.3B"
    for name in ("..", "../models", "Wan-AI/..", "toy"):
        assert place_of(name, tmp_path / "a.safetensors", "model_path") == name


@pytest.mark.fault("A5")
def test_where_the_base_is_not_known_it_is_asked_for_by_its_name(tmp_path):
    save_adapter(tmp_path / "a.safetensors", tensors(), replace(METADATA, base_name="/home/anna/Wan2.1-VACE-1.3B"))
    said = ("model_path: missing", "a.safetensors was trained on Wan2.1-VACE-1.3B (bbbbbbbbbbbb)", "give --model_path")
    words = ("--face_lora_path", tmp_path / "a.safetensors")
    refused(call("tools/export_lora.py", *words, "--lora_format", "merged", "--output", tmp_path / "m"), *said)
    render = ("--pose_video", tmp_path / "a.mp4", "--output", tmp_path / "b.mp4", "--face_embedding", tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    refused(call("sample.py", *words, *render), *said)


@pytest.mark.fault("A5")
@pytest.mark.slow
def test_a_trained_adapter_renders_without_model_path_and_names_no_folder(toy_inputs, toy_path, tmp_path):
    """Training with a base by its folder, then sample.py on the adapter alone, as the README has it."""
    base, encoder = tmp_path / "anna" / "wan", tmp_path / "anna" / "faces"
    base.parent.mkdir()
    base.symlink_to(toy_path)
    encoder.symlink_to(toy_path.parent / "encoder")
    run = tmp_path / "run"
    flags = ("--latents", toy_inputs.latents, "--face_embedding", toy_inputs.identity, "--output_dir", run)
    sizes = "--conditioning_dim 40 --mapper_hidden_dim 48 --num_tokens 3 --lora_rank 4 --num_epochs 1".split()
    quiet = "--validate_every 0 --num_workers 0 --tensorboard false --batch_size 4".split()
    trained = call("train.py", *flags, "--model_path", base, "--encoder_path", encoder, *sizes, *quiet)
    assert trained.code == 0, trained.screen
    adapter = run / "face_lora_final.safetensors"
    with safe_open(adapter, "pt") as file:
        said = json.loads(file.metadata()["faceid"])
    assert (said["base_name"], said["encoder_path"], said["format"]) == ("wan", "faces", FORMAT)
    pose = next((toy_inputs.dataset / "poses").glob("*.mp4"))
    words = (
        "--face_lora_path",
        adapter,
        "--face_images_dir",
        toy_inputs.dataset / "photos" / "target",
        "--pose_video",
        pose,
    )
    few = "--num_inference_steps 1 --cfg_scale 1".split()
    rendered = call("sample.py", *words, "--output", tmp_path / "a.mp4", *few)
    assert rendered.code == 0 and (tmp_path / "a.mp4").is_file(), rendered.screen
    ended = call(
        "tools/export_lora.py", "--face_lora_path", adapter, "--lora_format", "hub", "--output", tmp_path / "hub"
    )
    assert ended.code == 0 and "anna" not in everything_in(tmp_path / "hub")


def test_equal_adapters_are_equal_files_without_a_temporary_name(path):
    written, given = [], tensors()
    for folder in ("first", "second"):
        save_adapter(path.parent / folder / path.name, given, METADATA)
        written.append((path.parent / folder / path.name).read_bytes())
    assert written[0] == written[1] and b".faceid-" not in written[0] and b".tmp" not in written[0]
