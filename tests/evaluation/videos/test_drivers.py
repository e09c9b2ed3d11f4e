"""Who dances in a driving clip."""

from __future__ import annotations

import pytest

from faceid.errors import DataError
from faceid.evaluation.videos.renders import find_drivers

SOLO, GROUP = "gBR_sBM_c01_d04_mBR0_ch01", "gBR_sGR_c01_d04_d05_mBR0_ch01"


def test_an_aist_name_says_who_dances_unless_several_do():
    assert find_drivers([SOLO, GROUP, "holiday"], None) == {SOLO: "d04"}


def test_the_table_says_who_dances_and_wins_over_names(tmp_path):
    table = tmp_path / "drivers.csv"
    table.write_text(f"clip,dancer\nholiday.mp4,ann\n{SOLO},bob\n")
    assert find_drivers([SOLO, GROUP, "holiday"], table) == {SOLO: "bob", "holiday": "ann"}


def test_a_table_of_other_columns_is_refused(tmp_path):
    table = tmp_path / "drivers.csv"
    table.write_text("video,who\nx,ann\n")
    with pytest.raises(DataError, match="line 2 has no clip or no dancer"):
        find_drivers([SOLO], table)
