"""What a proof shows of its tests: a row for each promise, and nothing that no proof runs."""

import json

import pytest

INI = "[pytest]\nmarkers =\n    promise\n    proof_only\n    slow\n"
TESTS = """
import pytest
def promise(text, proof="main", **more):
    return pytest.mark.promise(text, bar="all", proof=proof, **more)  # proof="main"
@promise("kept")
def test_one(record_property):
    record_property("measured", "3 of 3")
@promise("kept")
@promise("also kept")
@pytest.mark.parametrize("number", [1, 2])
def test_several(number):
    pass
@promise("broken")
def test_fails():
    assert False
@promise("late", longest_s=0)
def test_late():
    pass
@promise("absent")
def test_skipped():
    pytest.skip("no cluster")
@promise("of another", proof="data")
def test_of_another():
    assert False
@promise("in full", full=True)
def test_in_full():
    pass
@promise("long")
@pytest.mark.proof_only("a minute", proof="main")
def test_long():
    pass
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest over a file of tests, as a proof of that size does; its result and the rows."""
    pytester.makeini(INI)

    def run(source, *words, sizes="small"):
        monkeypatch.setattr("promises.SIZES", sizes)
        pytester.makepyfile(source)
        file = pytester.path / "rows.json"
        found = pytester.runpytest_inprocess("-p", "promises", "--proof_rows", str(file), *words)
        return found, json.loads(file.read_text()) if file.exists() else []

    return run


def test_a_proof_has_a_row_for_each_of_its_promises(run):
    found, rows = run(TESTS, "--proof", "main")
    seen = {row["promise"]: (row["verdict"], row["measured"]) for row in rows}
    assert seen == {
        "kept": ("holds", "3 of 3"),
        "also kept": ("holds", "2 of 2 checks pass"),
        "broken": ("falls short", "0 of 1 checks pass; failed: test_fails"),
        "late": ("falls short", "1 of 1 checks pass"),
        "absent": ("not shown", "skipped: no cluster"),
        "long": ("holds", "1 of 1 checks pass"),
    }
    assert {row["bar"] for row in rows} == {"all"}
    found.assert_outcomes(passed=5, failed=1, skipped=1, deselected=2)


def test_full_sizes_have_more_promises(run):
    _, rows = run(TESTS, "--proof", "main", sizes="full")
    assert "in full" in {row["promise"] for row in rows}


def test_outside_of_proofs_a_long_test_is_left_out_and_says_whose_it_is(run):
    found, _ = run(TESTS, "-rs", "-k", "test_long", sizes="tests")
    found.assert_outcomes(skipped=1, deselected=8)
    found.stdout.fnmatch_lines(["*a minute: in make prove-main*"])
    found, _ = run(TESTS, "-m", "not slow", "-k", "test_long", sizes="tests")
    found.assert_outcomes(deselected=9)


def test_a_test_that_no_proof_would_run_is_refused(run):
    found, _ = run("import pytest\n@pytest.mark.proof_only('long', proof='main')\ndef test_it():\n    pass\n")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*test_it: is left to make prove-main, and holds no promise of it*"])
