"""A model folder may be anybody's: no code in it is run, no name in it leads out of it, nothing absurd is built."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import REPOSITORY
from original_layout import write_both
from safetensors.torch import load_file, save_file
from time_limit import at_most

from faceid.errors import ModelError
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.toy.shipped import resolve_encoder_path

# Ours, which hands on to those below; and what takes settings alone, not a folder.
OURS = {"FaceIdentityPipeline"}
CODE = "from pathlib import Path\nPath({mark!r}).touch()\nclass Evil:\n    pass\n"


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    return write_both(tmp_path_factory.mktemp("layouts"))


@pytest.fixture(params=["diffusers", "original"])
def layout(request) -> str:
    return request.param


@pytest.fixture
def base(both, layout, tmp_path) -> Path:
    return Path(shutil.copytree(both[layout == "original"], tmp_path / "base"))


@pytest.fixture
def clip_folder() -> Path:
    return Path(str(resolve_encoder_path("toy")))


def refusal(folder: Path, parts=("transformer", "vae", "text")) -> str:
    with pytest.raises(ModelError) as error:
        load_wan(folder, parts)
    return str(error.value)


# --- code ------------------------------------------------------------------------------------------------------------


def loading_calls(source: str) -> list[ast.Call]:
    """Calls of `from_pretrained`, but for our own pipeline's."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id in OURS):
                found.append(node)
    return found


def trusts_nobody(call: ast.Call) -> bool:
    given = {word.arg: word.value for word in call.keywords}
    value = given.get("trust_remote_code")
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.fault("S2")
def test_every_call_that_loads_a_model_says_that_no_code_of_it_is_trusted():
    calls = {}
    for name in ("faceid", "tools", "train.py", "sample.py"):
        path = REPOSITORY / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            calls |= {f"{file.relative_to(REPOSITORY)}:{call.lineno}": call for call in loading_calls(text)}
            # Whatever would load a pickle, or a class that a file names, otherwise.
            for word in (
                "weights_only=False",
                "add_safe_globals",
                "trust_remote_code=True",
                "pickle.load(",
                "torch.hub",
            ):
                assert word not in text, f"{file}: {word}"
    assert len(calls) >= 4
    assert [place for place, call in calls.items() if not trusts_nobody(call)] == []
    assert not trusts_nobody(loading_calls("AutoModel.from_pretrained(x, trust_remote_code=given)")[0])
    assert not trusts_nobody(loading_calls("transformers.AutoModel.from_pretrained(x)")[0])


@pytest.fixture
def nobody_is_asked(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the code"))
    # As on a terminal: transformers asks only where it has time to.
    monkeypatch.setattr("transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE", 15)


@pytest.mark.fault("S2")
@pytest.mark.usefixtures("nobody_is_asked")
def test_an_encoder_folder_s_code_is_not_run(tmp_path):
    mark, folder = tmp_path / "ran", tmp_path / "encoder"
    folder.mkdir()
    config = {"model_type": "dinov2_evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    with pytest.raises(ModelError, match=r"encoder: not a dinov2 encoder that can be loaded: .*custom code"):
        load_encoder("dinov2", folder)
    assert not mark.exists()


@pytest.mark.fault("S2")
@pytest.mark.usefixtures("nobody_is_asked")
def test_a_tokenizer_folder_s_code_is_not_run(base, layout, tmp_path):
    mark, folder = tmp_path / "ran", base / ("tokenizer" if layout == "diffusers" else "google/umt5-xxl")
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    config = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    said = refusal(base, ("text",))
    assert str(folder) in said and "custom code" in said and not mark.exists()


# --- names -----------------------------------------------------------------------------------------------------------


def part_of(base: Path, layout: str) -> Path:
    return base / "transformer" if layout == "diffusers" else base


@pytest.mark.fault("S3")
@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/passwd", "a/../../x", "..", "", 7, None, "a\\b", "sub/x.safetensors", "a\nb", "9" * 300],
)
def test_an_index_may_not_name_what_is_elsewhere(base, layout, name):
    folder = part_of(base, layout)
    (folder.parent / "x.safetensors").write_bytes((folder / "diffusion_pytorch_model.safetensors").read_bytes())
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"patch_embedding.weight": name}}))
    said = refusal(base, ())
    assert str(index) in said and "must be the name of a file in" in said


@pytest.mark.fault("S3")
@pytest.mark.parametrize("content", ["[" * 100_000, '{"weight_map": []}', '{"weight_map": {}}', "{}", "[]", "\xff"])
def test_an_index_that_is_none_is_refused(base, layout, content):
    index = part_of(base, layout) / "diffusion_pytorch_model.safetensors.index.json"
    index.write_bytes(content.encode("latin1"))
    assert f"{index}: cannot be read" in refusal(base, ())


@pytest.mark.fault("S3")
def test_a_link_that_the_user_made_is_followed(base, layout, tmp_path):
    folder = part_of(base, layout)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    assert load_wan(base, ("transformer",)).transformer is not None


@pytest.mark.fault("S3")
@pytest.mark.parametrize(("key", "value"), [("vocab_file", "/etc/passwd"), ("fast_tokenizer_files", ["../../x.json"])])
def test_a_tokenizer_s_config_may_not_name_what_is_elsewhere(base, layout, key, value):
    file = base / ("tokenizer" if layout == "diffusers" else "google/umt5-xxl") / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert f"{file}: {key}=" in refusal(base, ("text",))


@pytest.mark.fault("S3")
def test_an_encoder_s_index_may_not_name_what_is_elsewhere(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "inner" / "encoder"))
    (folder / "model.safetensors").rename(tmp_path / "inner" / "x.safetensors")
    index = folder / "model.safetensors.index.json"
    names = load_file(tmp_path / "inner" / "x.safetensors")
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "../x.safetensors")}))
    with pytest.raises(ModelError, match=r"index\.json: names '\.\./x\.safetensors'"):
        load_encoder("clip", folder)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_layers", 10**6),
        ("ffn_dim", 10**12),
        ("rope_max_seq_len", 10**9),
        ("eps", float("nan")),
        ("vace_layers", [0] * 9999),
    ],
)
def test_a_config_of_absurd_sizes_is_refused_at_once(both, tmp_path, key, value):
    base = Path(shutil.copytree(both[0], tmp_path / "base"))
    file = base / "transformer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with at_most(5):
        assert f"{file}: {key}" in refusal(base, ("transformer",))


@pytest.mark.fault("A4")
def test_an_encoder_of_absurd_sizes_is_refused_at_once(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**6}))
    with pytest.raises(ModelError, match="num_hidden_layers=1000000: no encoder has that"):
        load_encoder("clip", folder)


def change(file: Path, name: str, make) -> None:
    """One tensor of a weights file, changed."""
    tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    tensors[name] = make(tensors[name])
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)


def one_nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[-1] = float("nan")
    return tensor


def some_tensor(base: Path, part: str) -> tuple[Path, str]:
    opened = {each.name: each for each in ModelFiles.find(base).parts}[part]
    return opened.files[0].path, sorted(opened.files[0].shapes)[-1]


@pytest.mark.fault("M14")
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_base_with_a_number_that_is_none_is_refused_by_the_tensor(base, part, dtype):
    file, name = some_tensor(base, part)
    change(file, name, one_nan)
    loaded = "text" if part == "text_encoder" else part
    with pytest.raises(ModelError, match="numbers that are not finite") as error:
        load_wan(base, (loaded,), dtype=dtype)
    # transformers has names of its own for what it has loaded.
    assert part == "text_encoder" or name in str(error.value)
    assert str(file.parent if part != "text_encoder" else base) in str(error.value)


@pytest.mark.fault("M14")
def test_large_numbers_are_no_damage(base):
    """Whose sum is beyond what 16 bits hold; each of them is a number."""
    file, name = some_tensor(base, "transformer")
    change(file, name, lambda tensor: torch.full_like(tensor, 60000.0))
    assert load_wan(base, ("transformer",), dtype=torch.float16).transformer is not None


@pytest.mark.fault("M14")
def test_an_encoder_with_a_number_that_is_none_is_refused_by_the_tensor(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "encoder"))
    change(folder / "model.safetensors", "visual_projection.weight", one_nan)
    with pytest.raises(ModelError, match=r"visual_projection\.weight has numbers that are not finite"):
        load_encoder("clip", folder)


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    "content", [{"a": torch.zeros(1).expand(10**10)}, {7: torch.zeros(3)}, {"a": 1}, [torch.zeros(1)]]
)
def test_a_vae_file_that_claims_what_it_does_not_hold_is_refused(both, tmp_path, content):
    base = Path(shutil.copytree(both[1], tmp_path / "base"))
    torch.save(content, base / "Wan2.1_VAE.pth")
    said = refusal(base, ())
    assert "Wan2.1_VAE.pth: " in said and ("more numbers than are stored" in said or "not a list of tensors" in said)


@pytest.mark.fault("A3")
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_base_of_whole_numbers_is_refused_before_anything_is_loaded(base, part):
    file, name = some_tensor(base, part)
    change(file, name, lambda tensor: tensor.to(torch.int8))
    assert f"{file}: {name} is" in (said := refusal(base, ())) and "quantised weights are not read" in said


@pytest.mark.fault("A3")
def test_a_base_in_8_bit_floats_is_lifted(base, layout):
    file, name = some_tensor(base, "transformer")
    expected = []
    change(file, name, lambda tensor: expected.append(tensor.to(torch.float8_e4m3fn)) or expected[0])
    files = ModelFiles.find(base)
    loaded = load_wan(files, ("transformer",)).transformer.state_dict()[files.transformer.names[name]]
    assert torch.equal(loaded, expected[0].float())
