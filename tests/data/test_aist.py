"""What AIST names and lists of them say."""

from __future__ import annotations

import pytest

from faceid.data.aist import parse_aist_name, read_name_list, several_people
from faceid.errors import DataError

SOLO = "gBR_sBM_c01_d04_mBR0_ch01"


def test_a_name_says_all_six_things_and_what_follows():
    name = parse_aist_name(f"{SOLO}_clip_003")
    assert name is not None
    assert (name.genre, name.situation, name.camera, name.dancers) == ("gBR", "sBM", "c01", ("d04",))
    assert (name.music, name.choreography, name.rest, name.camera_number) == ("mBR0", "ch01", "_clip_003", 0)
    assert name.sequence == "gBR_sBM_cAll_d04_mBR0_ch01"


@pytest.mark.parametrize(
    "stem", ["holiday", "gXX_sBM_c01_d04_mBR0_ch01", "gBR_sBM_c01_mBR0_ch01", f"{SOLO}5", f"x{SOLO}", "", f"\n{SOLO}"]
)
def test_other_names_are_not_aist_s(stem):
    assert parse_aist_name(stem) is None


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        (SOLO, None),
        ("holiday", None),
        ("gLO_sGR_c01_d13_d14_d15_mLO1_ch08", "group"),
        ("gBR_sSH_c01_d04_d05_mBR0_ch01", "show"),
        ("gMH_sBT_c04_v1", "show"),
        ("sSH_c01_v0", "show"),
        ("gBR_sCY_c01_d04_mBR0_ch01", "show"),
    ],
)
def test_films_of_several_people_are_recognised(stem, kind):
    assert several_people(stem) == kind


def test_lists_are_read_whatever_their_endings_and_blank_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "\n gBR_sBM_cAll_d04_mBR0_ch01.json\n\r\ngBR_sBM_c03_d05_mBR0_ch02_slice7\ngBR_sBM_cAll_d04_mBR0_ch01"
    )
    assert [name.sequence for name in read_name_list(path)] == [
        "gBR_sBM_cAll_d04_mBR0_ch01",
        "gBR_sBM_cAll_d05_mBR0_ch02",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [("\n \n", "holds no name"), (f"{SOLO}\nholiday\n", "line 2: 'holiday' is not an AIST name")],
)
def test_a_list_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_name_list(path)


@pytest.mark.promise("every real AIST name of every list parses", bar="all", proof="data")
@pytest.mark.real_data
def test_every_real_name_of_every_real_list_parses(real_data):
    lists = {path.name: read_name_list(path) for path in sorted((real_data / "aist").iterdir())}
    counts = {name: len(names) for name, names in lists.items()}
    # 980 and 20 names, one without a last newline; 45 ignored, here and there with blank lines and `.json`.
    assert counts["edge_crossmodal_train.txt"] == 980 and counts["edge_crossmodal_test.txt"] == 20
    assert counts["edge_ignore_list.txt"] == 45
    train, ignored = (lists[f"edge_{name}.txt"] for name in ("crossmodal_train", "ignore_list"))
    assert len({n.sequence for n in train} & {n.sequence for n in ignored}) == 28
    # Every dancer has one genre, three dancers each: genre tells the dancer.
    genre_of = {(name.dancers, name.genre) for name in train}
    assert len(genre_of) == len({dancers for dancers, _ in genre_of}) == 30
    assert {name.camera for name in train} == {"cAll"} and len({name.genre for name in train}) == 10
