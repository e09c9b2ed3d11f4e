"""Whose face is rendered: how a folder of people is read, and which faces an adapter takes."""

import logging
from dataclasses import replace

import pytest
import torch
from written_identities import write_embedding, write_identity

from faceid.errors import DataError, ModelError
from faceid.faces.identities.identity import Identity
from faceid.models.adapter.adapter_file import AdapterMetadata
from faceid.sampling.who.rendered_identities import Face, check_identity, named_face, parse_blend, read_people
from faceid.sampling.who.who_settings import WhoSettings


@pytest.fixture
def metadata(small_adapter_settings):
    return AdapterMetadata(
        base_name="toy",
        base_fingerprint="b" * 64,
        face_embedding_dim=4,
        encoder="clip",
        encoder_fingerprint="e" * 64,
        settings=small_adapter_settings,
    )


@pytest.fixture
def identity():
    return Identity("someone", torch.tensor([1.0, 0, 0, 0]), "clip", "e" * 64)


def test_people_are_identity_folders_and_pt_files_by_name_in_order(tmp_path):
    write_identity(tmp_path / "carl", seed=3, name="called otherwise inside")
    write_embedding(tmp_path / "bob.pt", seed=2)
    write_identity(tmp_path / "anna", seed=1)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    people = read_people(tmp_path)
    assert list(people) == ["anna", "bob", "carl"]
    assert people["anna"].encoder == "clip" and people["bob"].encoder == "unknown"
    assert not torch.equal(people["anna"].embedding, people["bob"].embedding)


def test_a_folder_and_a_file_of_one_name_are_refused(tmp_path):
    write_identity(tmp_path / "anna")
    write_embedding(tmp_path / "anna.pt")
    with pytest.raises(DataError, match=r"both anna/ and anna\.pt"):
        read_people(tmp_path)


@pytest.mark.parametrize("name", ["-rf", "a:b", "line\nbreak", "dot.", "what?", "back\\slash"])
def test_a_name_that_is_no_safe_file_name_is_refused(tmp_path, name):
    write_embedding(tmp_path / f"{name}.pt")
    with pytest.raises(DataError, match="cannot name a folder everywhere") as refusal:
        read_people(tmp_path)
    assert repr(name) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["Zoë", "anna (2)", "o'neil", "a.b-c_d", "小明"])
def test_names_of_people_are_safe(tmp_path, name):
    write_embedding(tmp_path / f"{name}.pt")
    assert list(read_people(tmp_path)) == [name]


def test_one_persons_folder_is_not_a_folder_of_people(tmp_path):
    write_identity(tmp_path / "anna")
    with pytest.raises(DataError, match="use --face_embedding"):
        read_people(tmp_path / "anna")


def test_nobody_to_render_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_people(tmp_path / "absent")
    with pytest.raises(DataError, match="nobody to render"):
        read_people(tmp_path)


def test_a_folder_that_is_no_identity_is_refused_by_name(tmp_path):
    write_identity(tmp_path / "anna")
    (tmp_path / "bob").mkdir()
    with pytest.raises(DataError, match=r"bob/identity_embedding\.pt: no such file"):
        read_people(tmp_path)


def test_the_face_must_come_from_the_adapters_encoder(metadata, identity):
    check_identity(identity, metadata, "face_embedding")
    other = replace(identity, encoder="dinov3", encoder_fingerprint="f" * 64)
    with pytest.raises(ModelError, match=r"identities_dir: bob: made by encoder dinov3 .* trained with clip"):
        check_identity(other, metadata, "identities_dir: bob")


def test_a_bare_embedding_is_taken_with_a_warning(metadata, identity, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    check_identity(replace(identity, encoder="unknown", encoder_fingerprint=""), metadata, "face_embedding")
    assert "the adapter wants clip" in caplog.text


def test_an_embedding_of_another_size_is_refused(metadata, identity):
    bare = replace(identity, embedding=torch.ones(5) / 5**0.5, encoder="unknown", encoder_fingerprint="")
    with pytest.raises(ModelError, match="5 numbers, the adapter was trained with 4"):
        check_identity(bare, metadata, "face_embedding")


@pytest.fixture
def people(tmp_path):
    write_identity(tmp_path / "people" / "anna", seed=1)
    write_identity(tmp_path / "people" / "bob", seed=2)
    write_embedding(tmp_path / "people" / "carl.pt", seed=3)
    return tmp_path / "people"


def named(people, **who):
    return WhoSettings(identities_dir=str(people), **who)


def test_blends_are_read_and_what_is_none_is_named():
    assert parse_blend("identity", "anna") == [("anna", 1.0)]
    assert parse_blend("identity", "anna:0.7, bob b:0.3") == [("anna", 0.7), ("bob b", 0.3)]
    assert parse_blend("identity", "/a:b/c:1,x:2") == [("/a:b/c", 1.0), ("x", 2.0)]
    for wrong in ("anna,bob", "anna:0.7,bob", "anna:-1,bob:2", ":1,bob:2", "anna:x,bob:1"):
        with pytest.raises(DataError, match=r"is not NAME:WEIGHT; write anna:0\.7,bob:0\.3"):
            parse_blend("identity", wrong)


def test_a_blend_lies_between_its_parts_and_weights_are_shares(people, metadata, caplog):
    caplog.set_level(logging.INFO, "faceid")
    anna, bob = (named_face(named(people, identity=name), metadata).embedding for name in ("anna", "bob"))
    mixed = named_face(named(people, identity="anna:0.7,bob:0.3"), metadata)
    assert mixed.name == "anna:0.7,bob:0.3" and mixed.embedding.norm() == pytest.approx(1)
    assert mixed.embedding @ anna > mixed.embedding @ bob > anna @ bob
    assert not caplog.records or "normalised" not in caplog.text
    same = named_face(named(people, identity="anna:7,bob:3"), metadata)
    assert torch.allclose(same.embedding, mixed.embedding) and "sum to 10 and are normalised" in caplog.text


def test_a_face_that_changes_begins_as_one_and_ends_as_the_other(people, metadata):
    face = named_face(named(people, identity_from="anna", identity_to="carl"), metadata)
    over = face.over(num_frames=5, num_references=1)
    assert face.name == "anna to carl" and over.shape == (6, 4) and torch.allclose(over.norm(dim=1), torch.ones(6))
    assert torch.equal(over[0], over[1]) and torch.allclose(over[1], face.embedding)
    assert torch.allclose(over[-1], face.towards, atol=1e-6)
    angles = torch.acos((over[1:-1] * over[2:]).sum(1).clamp(-1, 1))
    assert angles.max() - angles.min() < 1e-3
    assert Face("x", face.embedding).over(5, 1) is face.embedding and Face().over(5, 0) is None


def test_a_name_that_is_not_there_names_the_nearest_and_another_encoder_is_refused(people, metadata):
    with pytest.raises(DataError, match=r"identity=ana: not in .*people, nor is it a path; did you mean anna\?"):
        named_face(named(people, identity="ana"), metadata)
    write_identity(people / "dora", seed=4, fingerprint="f" * 64)
    with pytest.raises(ModelError, match=r"identity: dora: made by encoder clip \(f{12}\)"):
        named_face(named(people, identity="anna:0.5,dora:0.5"), metadata)
    assert named_face(named(people, identity=str(people / "bob")), metadata).embedding is not None
