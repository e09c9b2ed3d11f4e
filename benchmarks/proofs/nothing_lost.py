"""That nothing of the user's is lost, nothing wrong is trained on, and that tests would notice.

As root: it mounts small disks.
"""

from __future__ import annotations

import planted_faults

from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Seen

LONGEST_TEST_S = 10.0
# Of the planted faults, every so many at the default size.
SMALL_EVERY = 8
LEAST_NOTICED = 0.95


def _planted(work: Work) -> list[Seen]:
    found = planted_faults.look_at(planted_faults.read_faults()[:: 1 if work.is_full else SMALL_EVERY])
    noticed = sum(each.noticed is True for each in found)
    missed = [each.fault.name for each in found if each.noticed is not True]
    work.details["planted"] = {
        each.fault.name: {"noticed": each.noticed, "test_s": round(each.test_s, 1)} for each in found
    }
    longest = max(found, key=lambda each: each.test_s)
    noticing: Seen = (
        "careless changes, planted one at a time, are noticed by the test that is named for each",
        f"at least {LEAST_NOTICED:.0%}",
        f"{noticed} of {len(found)}" + (f"; not: {', '.join(missed)}" if missed else ""),
        noticed >= LEAST_NOTICED * len(found),
    )
    short: Seen = (
        "the test that notices a planted fault is short (two at a time, without the inputs that tests share)",
        f"each under {LONGEST_TEST_S:.0f} s",
        f"the longest {longest.test_s:.1f} s: {longest.fault.name}",
        longest.test_s < LONGEST_TEST_S,
    )
    return [noticing, short]


PROOF = Proof("nothing_lost", (_planted,))
