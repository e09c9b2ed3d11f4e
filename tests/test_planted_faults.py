"""The list of planted faults can be read, and every fault can still be planted."""

import planted_faults
import pytest


@pytest.mark.parametrize("fault", planted_faults.read_faults(), ids=lambda fault: fault.name)
def test_what_a_fault_replaces_stands_once_in_its_file(fault):
    assert (planted_faults.REPOSITORY / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
