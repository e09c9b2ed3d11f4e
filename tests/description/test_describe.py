"""A person described by the embedded base, by the tool itself; and what a run makes of it."""

from __future__ import annotations

import shutil
import stat

import pytest
import torch
from permissions import obeyed_permissions
from safetensors.torch import save_file

from faceid.description.description_file import Description, read_description, write_description
from faceid.description.photo_losses import encode_description
from faceid.errors import ConfigError, FaceidError, ModelError
from faceid.faces.identities.identity import load_identity
from faceid.files.documents import read_json
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import DEFAULT_PROMPT, AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import load_wan
from faceid.toy.dataset import write_toy_dataset
from faceid.toy.descriptions import description_phrases
from faceid.toy.people import draw_person
from faceid.toy.toy_settings import ToyClipSettings, ToySettings
from tools import describe_person, prepare_face_embeddings

SAID = "green hair in a bun, round red glasses"
FINGERPRINT = "f" * 64


@pytest.fixture(scope="module")
def wan(toy_path):
    return load_wan(toy_path, ("text", "transformer"), name="toy")


class TestFile:
    def test_what_is_written_reads_back_and_is_its_owners_alone(self, tmp_path):
        # In a closed folder every file is closed.
        path = tmp_path / "open" / "d.safetensors"
        path.parent.mkdir()
        path.parent.chmod(0o755)
        write_description(path, Description(SAID, torch.randn(5, 64), FINGERPRINT))
        read = read_description(path)
        assert (read.text, read.text_fingerprint, read.tokens.shape) == (SAID, FINGERPRINT, (5, 64))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # Opened by somebody, and written again with the same content.
        path.chmod(0o644)
        write_description(path, read)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("tensors", "header"),
        [
            ({"tokens": torch.zeros(5, 64)}, None),
            ({"tokens": torch.zeros(5, 64)}, {"faceid_description": "{"}),
            ({"tokens": torch.zeros(5, 64)}, {"faceid_description": '{"text": 1, "text_fingerprint": "f"}'}),
            (
                {"tokens": torch.full((5, 64), torch.nan)},
                {"faceid_description": '{"text": "a", "text_fingerprint": "f"}'},
            ),
            (
                {"tokens": torch.full((5, 64), 1e30)},
                {"faceid_description": '{"text": "a", "text_fingerprint": "f"}'},
            ),
            ({"tokens": torch.zeros(5)}, {"faceid_description": '{"text": "a", "text_fingerprint": "f"}'}),
            ({"words": torch.zeros(5, 64)}, {"faceid_description": '{"text": "a", "text_fingerprint": "f"}'}),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, tensors, header):
        save_file(tensors, tmp_path / "d.safetensors", metadata=header)
        with pytest.raises(
            ModelError, match=r"target_description=.*d\.safetensors: not a file of tools/describe_person"
        ):
            read_description(tmp_path / "d.safetensors")

    def test_a_file_that_is_cut_short_or_missing_is_refused(self, tmp_path):
        path = tmp_path / "d.safetensors"
        with pytest.raises(ModelError, match="target_description="):
            read_description(path)
        path.write_bytes(b"\x00" * 3)
        with pytest.raises(ModelError, match="or damaged"):
            read_description(path)


class TestWords:
    def test_words_that_begin_as_a_description_are_the_tokens_of_a_prompt_with_it(self, wan):
        told = encode_description(wan, DEFAULT_PROMPT, SAID.split(", "))
        texts = encode_prompts(wan.tokenizer, wan.text_encoder, [DEFAULT_PROMPT, f"{DEFAULT_PROMPT} with {SAID}"])
        short, whole = (text.unsqueeze(0) for text in texts.values())
        adapter = install_adapter(
            load_wan(wan.files, ("transformer",)).transformer, AdapterSettings(target_words=32, lora_rank=4), 64
        )
        adapter.begin_words_with(told.tokens)
        embedder = adapter.transformer.condition_embedder.image_embedder
        face = torch.nn.functional.normalize(torch.randn(1, 64), dim=1)
        with torch.no_grad():
            embedder.target_words.vectors[len(told.tokens) :] = 0
            told_by_words = embedder.target_words(short, face_input(face, 1.0, 1.0), 64)[0]
        nonzero = [text[text.abs().amax(1) > 0] for text in (told_by_words, whole[0])]
        # The end token of the shorter prompt stays. All else is token by token the same: the prompt's own tokens change
        # a little, since a text encoder lets them see what follows.
        count = len(told.tokens)
        assert len(nonzero[0]) == len(nonzero[1]) + 1
        torch.testing.assert_close(nonzero[0][-count:], nonzero[1][-count:], rtol=1e-4, atol=1e-4)

    def test_phrases_that_find_no_room_are_left_out_from_the_end_and_not_logged(self, wan, caplog):
        phrases = [f"secret{n} hair" for n in range(40)]
        told = encode_description(wan, DEFAULT_PROMPT, phrases)
        kept = told.text.split(", ")
        assert kept == phrases[: len(kept)] and 2 < len(kept) < 40
        assert f"the last {40 - len(kept)} phrases are left out" in caplog.text and "secret" not in caplog.text

    def test_a_description_that_finds_no_room_is_refused_and_not_logged(self, wan, caplog):
        with pytest.raises(ConfigError, match=r"prompt=a person dancing in a st.*than the base reads, 64"):
            encode_description(wan, DEFAULT_PROMPT, ["red hair, " * 40])
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--photo_size", "50"], r"photo_size=50: must be a multiple of 16 px for this model; use 48 or 64"),
        (["--face_images_dir", "."], r"face_images_dir=\.: .* or an identity of these photos"),
        (["--text", " "], "text: is empty"),
        (["--face_embedding", "bare.pt"], r"face_embedding=bare\.pt: knows no photos; give an identity folder"),
        (["--prompt", "dancing " * 61], r"prompt=dancing.*with a phrase of skin.*the base reads 64"),
        (["--expert", "low"], "expert=low: "),
        (["--output", "d.txt"], r"output=d\.txt: does not end in \.safetensors"),
    ],
)
def test_what_cannot_be_used_is_refused_by_the_tools_own_flags(toy_inputs, tmp_path, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    torch.save(load_identity(toy_inputs.identity).embedding, "bare.pt")
    given = ["--face_images_dir", toy_inputs.dataset / "photos/target", "--face_embedding", toy_inputs.identity]
    given += ["--model_path", "toy", "--output", tmp_path / "d.safetensors"]
    names = set(more[::2])
    kept = [
        word for name, value in zip(given[::2], given[1::2], strict=True) if name not in names for word in (name, value)
    ]
    with pytest.raises(FaceidError, match=said):
        describe_person.main([str(word) for word in [*kept, *more]])
    assert [path.name for path in tmp_path.iterdir()] == ["bare.pt"]


@pytest.mark.parametrize("closed", ["photos", "photos/photo_01.jpg", "identity"])
def test_a_closed_input_is_told_in_one_line(toy_inputs, tmp_path, closed):
    shutil.copytree(toy_inputs.dataset / "photos/target", tmp_path / "photos")
    shutil.copytree(toy_inputs.identity, tmp_path / "identity")
    words = ["--face_images_dir", tmp_path / "photos", "--face_embedding", tmp_path / "identity", "--model_path", "toy"]
    mode = (tmp_path / closed).stat().st_mode
    (tmp_path / closed).chmod(0)
    try:
        with obeyed_permissions(), pytest.raises(FaceidError, match="Permission denied"):
            describe_person.main([str(word) for word in [*words, "--output", tmp_path / "d.safetensors"]])
    finally:
        (tmp_path / closed).chmod(mode)


def test_own_words_need_no_photos(toy_inputs, toy_path, tmp_path, capsys):
    """Nothing is looked at: options of the search change nothing, and are not checked."""
    words = ["--face_images_dir", tmp_path / "none", "--face_embedding", toy_inputs.identity, "--model_path", "toy"]
    words += [
        "--text",
        "red hair",
        "--phrases",
        "none.yaml",
        "--photo_size",
        "33",
        "--output",
        tmp_path / "d.safetensors",
    ]
    assert describe_person.main([str(word) for word in words]) == 0
    first = read_description(tmp_path / "d.safetensors")
    assert capsys.readouterr().out == "red hair\n" and first.text == "red hair"
    # It is of this base, which a run asks for.
    assert first.text_fingerprint == ModelFiles.find(toy_path).latents_fingerprint
    # After another prompt the text encoder reads it otherwise.
    assert describe_person.main([str(word) for word in [*words, "--prompt", "a person in the rain"]]) == 0
    assert not torch.equal(read_description(tmp_path / "d.safetensors").tokens, first.tokens)


@pytest.mark.slow
@pytest.mark.promise("a person is described from photos by the base itself", bar="hair and skin", proof="main")
def test_a_drawn_person_is_described_from_photos(tmp_path, capsys):
    world = tmp_path / "world"
    clips = ToyClipSettings(clips_per_person=1, height=64, width=64, num_frames=5)
    write_toy_dataset(ToySettings(output_dir=world, num_people=2, photos_per_person=6, seed=3), clips)
    photos, identity = world / "photos/target", tmp_path / "identity"
    prepare_face_embeddings.main(
        ["--face_images_dir", str(photos), "--output_dir", str(identity), "--encoder_path", "toy"]
    )
    capsys.readouterr()
    given = ["--face_images_dir", str(photos), "--face_embedding", str(identity), "--model_path", "toy"]
    output = tmp_path / "d.safetensors"
    assert describe_person.main([*given, "--most_photos", "4", "--output", str(output)]) == 0
    said = capsys.readouterr().out.strip()
    truth = description_phrases(draw_person(read_json(world / "world.json")["people"]["target"]["seed"]))
    assert truth["hair"] in said
    assert read_description(output).text == said
