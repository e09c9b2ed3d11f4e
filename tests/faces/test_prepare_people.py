"""Many people in one call: an identity folder each, one encoder, and nobody held up by somebody else's photos."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from calling import command_module
from drawn_faces import draw_photo
from launching import run_command

from faceid.errors import ConfigError, DataError, OutputError
from faceid.faces.identities.identity import load_identity
from faceid.faces.identities.people_folder import prepare_people
from faceid.faces.identity_settings import FaceSettings
from faceid.files.outputs import write_output

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_face_embeddings.py"
WHOLE = FaceSettings(detector="none")


@pytest.fixture
def tool():
    return command_module("tools/prepare_face_embeddings.py")


@pytest.fixture
def people_dir(tmp_path):
    """Three people of four photos each."""
    for seed, name in enumerate(("carl", "anna", "bob")):
        (tmp_path / "people" / name).mkdir(parents=True)
        for index in range(4):
            photo = tmp_path / "people" / name / f"p{index}.png"
            draw_photo(photo, (200 - 60 * seed, 70 + 2 * index, 60), seed=10 * seed + index)
    return tmp_path / "people"


@pytest.fixture
def loads():
    """How often an encoder was loaded, as the length of a list."""
    return []


@pytest.fixture
def load_encoder(tiny_clip, loads):
    def load():
        loads.append(tiny_clip)
        return tiny_clip

    return load


def state(folder: Path) -> dict[str, int]:
    """Every file and when it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_subfolder_becomes_an_identity_of_its_name_with_one_encoder(people_dir, tmp_path, load_encoder, loads):
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert people.made == ["anna", "bob", "carl"] and not people.current and not people.failed
    assert [load_identity(tmp_path / "out" / name).name for name in people.made] == people.made
    assert len(loads) == 1


def test_what_is_current_is_left_alone_and_what_changed_is_made_again(people_dir, tmp_path, load_encoder):
    prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    before = state(tmp_path / "out")
    (people_dir / "bob" / "p3.png").unlink()
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert (people.current, people.made) == (["anna", "carl"], ["bob"])
    after = state(tmp_path / "out")
    assert {name for name in before if before[name] != after.get(name) and not name.startswith("bob/")} == set()
    assert len(load_identity(tmp_path / "out" / "bob").photo_weights) == 3


def test_an_identity_under_another_name_is_made_again(people_dir, tmp_path, load_encoder):
    prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    (people_dir / "anna").rename(people_dir / "zoe")
    (tmp_path / "out" / "anna").rename(tmp_path / "out" / "zoe")
    assert prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder).made == ["zoe"]
    assert load_identity(tmp_path / "out" / "zoe").name == "zoe"


@pytest.mark.parametrize("file", ["identity_embedding.pt", "metadata.pt"])
def test_a_damaged_identity_is_named_and_left(people_dir, tmp_path, load_encoder, file):
    prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    (tmp_path / "out" / "bob" / file).write_bytes(b"damaged")
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert people.made == [] and f"holds {file}, not as this command wrote it" in people.failed["bob"]
    assert (tmp_path / "out" / "bob" / file).read_bytes() == b"damaged"


def test_a_person_without_usable_photos_is_one_line_and_the_rest_goes_on(
    tool, people_dir, tmp_path, tiny_clip_folder, capsys
):
    for photo in (people_dir / "anna").iterdir():
        photo.write_bytes(b"damaged")
    shutil.rmtree(people_dir / "bob")
    (people_dir / "bob").mkdir()
    arguments = ["--people_dir", str(people_dir), "--output_dir", str(tmp_path / "out"), "--detector", "none"]
    assert tool.main([*arguments, "--encoder_path", str(tiny_clip_folder)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "not made" in line]
    assert len(lines) == 2
    assert "bob: not made" in lines[0] and "holds no photos" in lines[0]
    assert "anna: not made" in lines[1] and "0 of 4 photos are usable" in lines[1]
    # Beside the identity: what became of the photos that make none.
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert names == {"carl", "anna_refused.html"}


def test_all_well_is_exit_code_0(tool, people_dir, tmp_path, tiny_clip_folder):
    arguments = ["--people_dir", str(people_dir), "--output_dir", str(tmp_path / "out"), "--detector", "none"]
    assert tool.main([*arguments, "--encoder_path", str(tiny_clip_folder)]) == 0


def test_where_nothing_can_be_done_the_encoder_is_not_looked_for(people_dir, tmp_path, load_encoder, loads):
    for photo in people_dir.rglob("p[1-3].png"):
        photo.unlink()
    with pytest.raises(DataError, match=r"no identity could be made of 3; anna: .* 1 photos, at least 3"):
        prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert loads == [] and not (tmp_path / "out").exists()


@pytest.mark.starts_process
def test_nothing_done_is_exit_code_2(people_dir, tmp_path):
    for photo in people_dir.rglob("*.png"):
        photo.unlink()
    command = [sys.executable, str(TOOL), "--people_dir", str(people_dir), "--output_dir", str(tmp_path / "out")]
    run = run_command(command, expect=2)
    assert run.stderr.splitlines()[-1].startswith("error: people_dir=")


def test_a_foreign_folder_in_the_place_of_an_identity_stays(people_dir, tmp_path, load_encoder):
    """Put there since the first run, which made the folder one of identities."""
    shutil.copytree(people_dir / "bob", tmp_path / "one" / "bob")
    prepare_people(tmp_path / "one", tmp_path / "out", WHOLE, load_encoder)
    (tmp_path / "out" / "anna").mkdir()
    (tmp_path / "out" / "anna" / "thesis.txt").write_text("years of work")
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert (people.made, people.current) == (["carl"], ["bob"])
    assert "not as this command wrote it" in people.failed["anna"]
    assert (tmp_path / "out" / "anna" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("held", ["notes.txt", "anna/thesis.txt", ".hidden"])
def test_a_folder_that_holds_anything_else_is_refused_before_the_work(people_dir, tmp_path, load_encoder, loads, held):
    (tmp_path / "out" / held).parent.mkdir(parents=True)
    (tmp_path / "out" / held).write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=rf"^output_dir=.*holds {held.split('/')[0]}, not written by this command"):
        prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert loads == [] and sorted(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_is_said_of_the_output_and_not_of_the_people(
    people_dir, tmp_path, load_encoder, loads
):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "not_mounted")
    for name, words in (
        ("file", "is a file; name a folder"),
        ("link", "is a link to .*not_mounted, which is not there"),
    ):
        with pytest.raises(OutputError, match=rf"^output_dir={tmp_path / name}: {words}"):
            prepare_people(people_dir, tmp_path / name, WHOLE, load_encoder)
    assert loads == [] and not (tmp_path / "not_mounted").exists()


def test_one_person_s_folder_is_not_made_a_folder_of_people(people_dir, tmp_path, load_encoder):
    prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    with pytest.raises(OutputError, match="holds an identity, not identities of people"):
        prepare_people(people_dir, tmp_path / "out" / "bob", WHOLE, load_encoder)


def test_identities_that_were_made_one_by_one_are_gone_on_with(people_dir, tmp_path, load_encoder):
    """Also those of before the folder had a mark, with a report of photos that make none, as this command wrote it."""
    prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    (tmp_path / "out" / ".faceid" / "folder.json").unlink()
    shutil.rmtree(tmp_path / "out" / "anna")
    write_output(tmp_path / "out" / "anna_refused.html", "a report")
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert (people.made, people.current) == (["anna"], ["bob", "carl"])


def test_identities_of_people_are_their_owners_alone_unless_it_is_said(people_dir, tmp_path, load_encoder):
    for shared, mode in ((False, 0o700), (True, 0o755)):
        folder = tmp_path / f"shared_{shared}"
        prepare_people(people_dir, folder, replace(WHOLE, shared=shared), load_encoder)
        assert {path.stat().st_mode & 0o777 for path in (folder, folder / "bob")} == {mode}


def test_a_name_that_rendering_would_refuse_is_refused_here(people_dir, tmp_path, load_encoder):
    (people_dir / "bob").rename(people_dir / "b:ob")
    people = prepare_people(people_dir, tmp_path / "out", WHOLE, load_encoder)
    assert people.made == ["anna", "carl"] and "cannot name a folder everywhere" in people.failed["b:ob"]


def test_identities_do_not_go_among_the_photos(people_dir, load_encoder):
    for output in (people_dir, people_dir / "identities"):
        with pytest.raises(DataError, match="lies in people_dir"):
            prepare_people(people_dir, output, WHOLE, load_encoder)


def test_a_folder_of_photos_is_not_a_folder_of_people(people_dir, tmp_path, load_encoder):
    with pytest.raises(DataError, match="holds no folders, one for each person"):
        prepare_people(people_dir / "bob", tmp_path / "out", WHOLE, load_encoder)
    with pytest.raises(DataError, match="no such folder"):
        prepare_people(people_dir / "dan", tmp_path / "out", WHOLE, load_encoder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--people_dir", "p", "--face_images_dir", "f"), "face_images_dir: has no meaning with --people_dir"),
        (("--people_dir", "p", "--identity_name", "n"), "identity_name: has no meaning with --people_dir"),
        ((), "face_images_dir: missing; give one person's photos, or --people_dir"),
    ],
)
def test_one_person_or_many_but_not_both(tool, flags, words):
    with pytest.raises(ConfigError, match=words):
        tool.main([*flags, "--output_dir", "o"])
