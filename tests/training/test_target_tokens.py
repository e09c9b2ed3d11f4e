"""Tokens and words of the target's own: learnt from photos alone, and shown for nobody else."""

from dataclasses import replace

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, forward, train_a_little
from calling import call
from launching import QUIET, SMALL_ADAPTER

from faceid.data.latents.photo_latents import PhotoLatent
from faceid.description.description_file import Description, write_description
from faceid.errors import ConfigError
from faceid.faces.identities.identity import Identity, load_identity
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter
from faceid.models.adapter.face_adapter import OF_TARGET, adapter_tensors, install_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter.target_words import WORD_STD, TargetWords
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.models.wan_vace.transformer import hint_blocks
from faceid.sampling.who.rendered_identities import Face, warn_of_others
from faceid.toy.shipped import resolve_model_path
from faceid.training.inputs.training_data import hold_photos_back
from faceid.training.measuring.metrics import read_metrics
from faceid.training.measuring.samples import read_samples

TOKENS, WORDS = OF_TARGET
KINDS = {TOKENS: {"target_tokens": True}, WORDS: {"target_words": 3}}


@pytest.fixture(params=OF_TARGET)
def own(request, toy_wan, small_adapter_settings):
    """An adapter with one kind of what is the target's own, a little trained, and the parameter's name."""
    adapter = install_adapter(
        toy_wan.transformer, replace(small_adapter_settings, **KINDS[request.param]), EMBEDDING_DIM
    )
    train_a_little(adapter)
    assert list(adapter.target_parameters()) == [request.param]
    assert not adapter.target_parameters().keys() & adapter.mapper_parameters().keys()
    return adapter, request.param


@torch.no_grad()
def test_they_show_for_the_target_and_for_nobody_else(toy_wan, own):
    adapter, name = own
    shown = {share: forward(toy_wan, face_input(faces(), target_share=share)) for share in (0.0, 1.0)}
    assert not torch.allclose(shown[0.0], shown[1.0])
    adapter.parameters()[name].zero_()
    assert torch.equal(forward(toy_wan, face_input(faces(), target_share=1.0)), shown[0.0])
    # Nobody in particular is not the target.
    nobody = torch.zeros_like(faces())
    adapter.parameters()[name].add_(1.0)
    assert torch.equal(forward(toy_wan, face_input(nobody, target_share=1.0)), forward(toy_wan, face_input(nobody)))
    # Nor does a face of no strength say who it is.
    none = forward(toy_wan, face_input(faces(), face_scale=0.0, target_share=1.0))
    assert torch.equal(none, forward(toy_wan, face_input(faces(), face_scale=0.0)))


def test_words_stand_where_a_prompt_leaves_the_text_empty():
    words = TargetWords(3, 5)
    text, embedding = torch.randn(2, 8, 5), faces()
    text[0, 4:], text[1, 2:] = 0, 0
    together = words(text, face_input(embedding, target_share=torch.tensor([1.0, 0.5])), EMBEDDING_DIM)
    assert torch.equal(together[:, :5], text[:, :5])
    for place, (share, length) in enumerate([(1.0, 4), (0.5, 2)]):
        size = text[place, :length].pow(2).mean().sqrt()
        torch.testing.assert_close(together[place, 5:], share * size * words.vectors)
    assert torch.equal(words(text, face_input(embedding), EMBEDDING_DIM), text), "nobody is the target"


def test_a_changing_faces_words_are_those_of_all_its_frames():
    words, text, changing = TargetWords(3, 5), torch.ones(1, 8, 5), faces()[None]
    shown = words(text, face_input(changing, 1.0, torch.tensor([[1.0, 0.5]])), EMBEDDING_DIM)
    torch.testing.assert_close(shown[:, 5:], 1 + 0.75 * words.vectors[None])


def test_hints_see_words_and_teach_them_nothing(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, replace(small_adapter_settings, target_words=3), EMBEDDING_DIM)
    train_a_little(adapter)
    seen = []
    block = hint_blocks(toy_wan.transformer)[0]
    block.attn2.to_k.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for share in (0.0, 1.0):
        out = forward(toy_wan, face_input(faces(), target_share=share))
    assert not torch.equal(*seen) and not seen[1].requires_grad and out.requires_grad
    out.pow(2).sum().backward()
    assert adapter.parameters()[WORDS].grad.any()


def test_all_else_of_an_adapter_begins_the_same_with_and_without_words(toy_path, small_adapter_settings):
    made = {}
    for count in (0, 3):
        transformer = load_wan(toy_path, ("transformer",)).transformer
        adapter = install_adapter(transformer, replace(small_adapter_settings, target_words=count), EMBEDDING_DIM, 5)
        made[count] = {name: tensor for name, tensor in adapter_tensors(adapter).items() if name != WORDS}
    assert made[0].keys() == made[3].keys()
    assert all(torch.equal(made[0][name], made[3][name]) for name in made[0])


@torch.no_grad()
def test_each_face_of_a_batch_and_of_a_video_has_its_own_share(toy_wan, own):
    one, half = faces(batch=1).expand(2, -1), torch.tensor([1.0, 0.5])
    mixed = forward(toy_wan, face_input(one, target_share=half))
    for place, share in enumerate(half.tolist()):
        torch.testing.assert_close(mixed[place], forward(toy_wan, face_input(one, target_share=share))[place])


class TestWhoIsTheTarget:
    def test_by_name(self):
        embedding = faces(batch=1)[0]
        assert Face("anna", embedding).share_over("anna", 3, 0) == 1
        assert Face("bob", embedding).share_over("anna", 3, 0) == 0
        assert Face("", embedding).share_over("", 3, 0) == 0, "an adapter without tokens of anybody's"

    def test_in_a_blend_by_their_share_of_it(self):
        blend = Face("anna:0.7,bob:0.3", faces(batch=1)[0], shares=(("anna", 0.7), ("bob", 0.3)))
        assert blend.share_over("anna", 3, 0) == pytest.approx(0.7)

    def test_on_the_way_from_one_to_another(self):
        first, last = faces(batch=2)
        way = Face("anna to bob", first, last, (("anna", 1.0),), (("bob", 1.0),))
        torch.testing.assert_close(way.share_over("anna", 3, 1), torch.tensor([1.0, 1.0, 0.5, 0.0]))

    def test_it_is_said_where_nobody_is(self, caplog):
        """The README's own command rendered a person without what was learnt of the person: the photos' folder has
        another name than the identity."""
        anna, bob = faces(batch=2)
        of_anna = self.metadata("anna")
        warn_of_others("a.safetensors", of_anna, [Face("photos", anna), Face("bob", bob), Face()])
        said = "a.safetensors: what it learnt of anna alone is off, since nobody here has that name (bob, photos)"
        assert caplog.messages == [f"{said}. If it is the same person, give --face_embedding with that identity"]
        blend = Face("bob:0.7,anna:0.3", bob, shares=(("bob", 0.7), ("anna", 0.3)))
        for target, shown in (
            ("anna", [Face("anna", anna), Face("bob", bob)]),
            ("anna", [blend]),
            ("", [Face("x", bob)]),
        ):
            warn_of_others("a.safetensors", self.metadata(target), shown)
        warn_of_others("a.safetensors", of_anna, [Face()])
        assert len(caplog.messages) == 1

    def test_it_is_said_where_somebody_else_has_the_targets_name(self, caplog):
        anna, other = faces(batch=2)
        of_anna = self.metadata("anna", target_sha256=Identity("anna", anna, "clip", "e" * 64).sha256)
        given = Face("anna", anna), Face("a folder", anna, shares=(("anna", 1.0),)), Face("bob", other)
        blend = Face("bob:0.7,anna:0.3", other, shares=(("bob", 0.7), ("anna", 0.3)))
        warn_of_others("a.safetensors", of_anna, [*given, blend])
        # An adapter of before does not say.
        warn_of_others("a.safetensors", self.metadata("anna"), [Face("anna", other)])
        assert caplog.messages == []
        for face in (Face("anna", other), Face("a folder", other, shares=(("anna", 1.0),))):
            warn_of_others("a.safetensors", of_anna, [face])
        assert len(caplog.messages) == 2
        assert all("a.safetensors: anna has another embedding here than" in said for said in caplog.messages)

    @staticmethod
    def metadata(target, **more):
        return AdapterMetadata(
            "toy", "b", EMBEDDING_DIM, "clip", "e" * 64, AdapterSettings(), target_name=target, **more
        )


@pytest.mark.slow
def test_a_run_learns_them_in_both_stages(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--target_tokens", "true", "--target_words", "3"]
    flags += "--batch_size 2 --warmup_steps 0 --num_epochs 2 --save_every 1 --validate_every 0 --ema 0".split()
    flags += ["--freeze_mapper_after_epochs", "1", "--output_dir", str(tmp_path)]
    assert call("train.py", *flags).code == 0
    (first, _), (last, metadata) = (
        read_adapter(tmp_path / f"face_lora_{name}.safetensors") for name in ("epoch_1", "final")
    )
    assert first[TOKENS].any() and metadata.target_name
    assert metadata.target_sha256 == load_identity(toy_inputs.identity).sha256
    assert not torch.equal(first[TOKENS], last[TOKENS]) and not torch.equal(first[WORDS], last[WORDS])
    # Another target begins with none of them.
    again = [*flags[:-1], str(tmp_path / "again"), "--init_adapter", str(tmp_path / "face_lora_final.safetensors")]
    again += ["--learning_rate", "1e-12"]
    # But for the first words, which are told what to begin as.
    said = torch.randn(2, first[WORDS].shape[1], generator=torch.Generator().manual_seed(0))
    fingerprint = ModelFiles.find(resolve_model_path("toy")).latents_fingerprint
    write_description(tmp_path / "said.safetensors", Description("red hair", said, fingerprint))
    again += ["--target_description", str(tmp_path / "said.safetensors")]
    assert call("train.py", *again).code == 0
    begun = read_adapter(tmp_path / "again/face_lora_final.safetensors")[0]
    assert begun[TOKENS].abs().max() < 1e-9 < last[TOKENS].abs().max()
    assert torch.allclose(begun[WORDS][:2], said, atol=1e-6)
    assert begun[WORDS][2].std() < 2 * WORD_STD and not torch.allclose(begun[WORDS][2], last[WORDS][2], atol=1e-5)
    assert torch.allclose(begun["face_mapper.null_tokens"], last["face_mapper.null_tokens"])


class TestHeldOutPhotos:
    def photos(self, count, views=("photo",)):
        return {
            (name if view == "photo" else f"{name}@{view}"): PhotoLatent(
                torch.zeros(16, 1, 4, 4), torch.ones(1, 4, 4), photo=name if view != "photo" else ""
            )
            for name in (f"p{number}" for number in range(count))
            for view in views
        }

    def test_three_photos_must_be_left(self):
        assert len(hold_photos_back(self.photos(5), 2, 7)) == 2
        with pytest.raises(ConfigError, match="heldout_photos=3: of 5 photos 3 must be left"):
            hold_photos_back(self.photos(5), 3, 7)

    def test_all_views_of_a_photo_are_kept_back_together(self):
        (kept,) = hold_photos_back(self.photos(4, ("photo", "head")), 1, 7)
        assert kept == hold_photos_back(self.photos(4), 1, 7)[0], "drawn by name, whatever the views"
        with pytest.raises(ConfigError, match="give photo_framings with photo"):
            hold_photos_back(self.photos(4, ("head",)), 1, 7)


@pytest.mark.slow
def test_a_run_measures_the_targets_gap_on_photos_that_it_does_not_learn_from(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--heldout_photos", "1", "--validation_videos", "0"]
    flags += "--batch_size 2 --num_epochs 1 --validate_every 1 --log_samples true --output_dir".split()
    assert call("train.py", *flags, str(tmp_path)).code == 0
    (row,) = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "validation/swap_gap_target" in row]
    assert row["validation/loss_target_right_face"] > 0
    seen = {key for rows in read_samples(tmp_path / "logs").values() for _, key in rows}
    photos = set(load_identity(toy_inputs.identity).photo_sha256)
    assert len(photos - seen) == 1
