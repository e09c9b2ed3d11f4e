"""The signal matrix of docs/slurm.md: who hears what of each thing that can happen to a job, and what training does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import ENDED, REPOSITORY, Cluster, wait_until
from lab import IN_PROOF_ONLY, Lab

SIGNAL_MATRIX = pytest.mark.promise(
    "the signal matrix of docs/slurm.md: who hears what", bar="every line as written", proof="slurm"
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("waits")]

# A job that writes down what it hears, script and task, and goes on.
LISTENS = r"""#!/bin/bash
#SBATCH --open-mode=append
#SBATCH --requeue
note() { printf '%s %s %s\n' "$EPOCHREALTIME" "$1" "$2" >> "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}"; }
export -f note
for name in INT TERM USR2; do trap "note script $name" $name; done
srun bash -c 'for name in INT TERM USR2; do trap "note task $name" $name; done
  note task up; while :; do sleep 5 & wait; done' &
while :; do wait $!; kill -0 $! 2>/dev/null || break; done
"""
# Signals of one cause come within this, those of its end (KillWait, GraceTime later) after it.
AT_ONCE_S = 4.0
USER_SIGNAL = "SlurmctldParameters=preempt_send_user_signal"
SIGNALS = ("USR2", "TERM", "INT")


@dataclass(frozen=True)
class Cause:
    """Something that happens to a job.

    command: that makes it happen, JOB for the job's id; for none, time or another job does. options: of its sbatch.
    cluster: a line of slurm.conf that it takes. script, tasks: what is heard. training: what comes of a run.
    """

    said: str
    script: str
    tasks: str
    training: str
    command: str = ""
    options: str = ""
    cluster: str = ""

    @property
    def is_limit(self) -> bool:
        return self.said.startswith("time limit")

    @property
    def is_preemption(self) -> bool:
        return "--partition" in self.options

    def options_of(self, lead_s: int) -> list[str]:
        """Of sbatch. lead_s: what N stands for."""
        return self.options.format(lead=lead_s).split()

    def make_happen(self, cluster: Cluster, job: str) -> None:
        """Do what needs doing; a time limit comes by itself."""
        if self.command:
            cluster.run(*self.command.replace("JOB", job).split())
        elif self.is_preemption:
            cluster.take_nodes(f"--nodelist={cluster.show(job)['NodeList']}")

    @property
    def row(self) -> str:
        """As docs/slurm.md has it."""
        return f"| {self.said} | {self.script} | {self.tasks} | {self.training} |"


SAVED, LEFT = "saved, requeued", "saved, not requeued"
UNSAVED, LOST = "not saved, not requeued", "not saved, requeued"
GRACE, NO_GRACE = "--partition=low", "--partition=low0"
CAUSES = (
    Cause("`scancel --signal=USR2 JOB`", "-", "USR2", SAVED, "scancel --signal=USR2 JOB"),
    Cause("`scancel --signal=TERM JOB`", "-", "TERM", SAVED, "scancel --signal=TERM JOB"),
    Cause("`scancel --signal=INT JOB`", "-", "INT", UNSAVED, "scancel --signal=INT JOB"),
    Cause("`scancel --signal=USR2 --batch JOB`", "USR2", "-", SAVED, "scancel --signal=USR2 --batch JOB"),
    Cause("`scancel --signal=TERM --batch JOB`", "TERM", "-", SAVED, "scancel --signal=TERM --batch JOB"),
    Cause("`scancel --signal=INT --batch JOB`", "INT", "-", LEFT, "scancel --signal=INT --batch JOB"),
    Cause("`scancel --signal=USR2 --full JOB`", "USR2", "USR2", SAVED, "scancel --signal=USR2 --full JOB"),
    Cause("`scancel --signal=TERM --full JOB`", "TERM", "-", LOST, "scancel --signal=TERM --full JOB"),
    Cause("`scancel --signal=INT --full JOB`", "INT", "-", LEFT, "scancel --signal=INT --full JOB"),
    Cause("`scancel JOB`", "TERM", "TERM", LEFT, "scancel JOB"),
    Cause("`scontrol requeue JOB`", "TERM", "TERM", SAVED, "scontrol requeue JOB"),
    Cause("time limit, `--signal=USR2@N`", "later TERM", "USR2, later TERM", SAVED, options="--signal=USR2@{lead}"),
    Cause("time limit, `--signal=TERM@N`", "later TERM", "TERM, later TERM", SAVED, options="--signal=TERM@{lead}"),
    Cause("time limit, `--signal=INT@N`", "later TERM", "INT, later TERM", UNSAVED, options="--signal=INT@{lead}"),
    Cause("time limit, `--signal=B:USR2@N`", "USR2, later TERM", "later TERM", SAVED, options="--signal=B:USR2@{lead}"),
    Cause("time limit, `--signal=B:TERM@N`", "TERM, later TERM", "later TERM", SAVED, options="--signal=B:TERM@{lead}"),
    Cause("time limit, `--signal=B:INT@N`", "INT, later TERM", "later TERM", LEFT, options="--signal=B:INT@{lead}"),
    Cause("time limit, nothing said before it", "TERM", "TERM", LEFT, options="--signal=CONT@10"),
    Cause("preempted, `GraceTime=20`", "later TERM", "TERM, later TERM", SAVED, options=GRACE),
    Cause("preempted, `GraceTime=0`", "TERM", "TERM", SAVED, options=NO_GRACE),
    Cause(
        "preempted, `GraceTime=20`, `preempt_send_user_signal`, `--signal=USR2@N`",
        "later TERM",
        "USR2, later TERM",
        SAVED,
        options=f"{GRACE} --signal=USR2@{{lead}}",
        cluster=USER_SIGNAL,
    ),
    Cause(
        "preempted, `GraceTime=20`, `preempt_send_user_signal`, `--signal=B:USR2@N`",
        "USR2, later TERM",
        "later TERM",
        SAVED,
        options=f"{GRACE} --signal=B:USR2@{{lead}}",
        cluster=USER_SIGNAL,
    ),
)


@dataclass
class Listener:
    """A job that listens, and when its cause was set off."""

    cause: Cause
    job: str
    folder: Path

    def lines(self) -> list[list[str]]:
        """Time, who, what; of its first attempt."""
        path = self.folder / f"{self.job}.0"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def heard(self, who: str) -> str:
        """In the table's words: signals at once, and later ones."""
        heard = [(float(at), by, what) for at, by, what in self.lines() if what != "up"]
        first = min((at for at, _, _ in heard), default=0.0)
        words = [what if at - first < AT_ONCE_S else f"later {what}" for at, by, what in heard if by == who]
        return ", ".join(dict.fromkeys(words)) or "-"


def listen(lab: Lab, cause: Cause, *options: str) -> Listener:
    script = lab.folder / "listens.sbatch"
    script.write_text(LISTENS)
    words = ["sbatch", "--parsable", f"--chdir={lab.folder}", "--output=/dev/null", *options, *cause.options_of(20)]
    return Listener(cause, lab.cluster.run(*words, str(script)).stdout.strip(), lab.folder)


def hear(lab: Lab, causes: list[Cause]) -> list[Listener]:
    """Let everything happen, each to a job of its own; what was heard."""
    # Who is preempted has a node to itself, so that the other job takes that one.
    preempted = iter(("n1", "n2"))
    listeners = []
    for cause in causes:
        place = [f"--nodelist={next(preempted)}", "--exclusive"] if cause.is_preemption else ["--nodelist=n3"]
        listeners.append(listen(lab, cause, *place, *(["--time=1"] if cause.is_limit else [])))
    for listener in listeners:
        wait_until(lambda each=listener: len(each.lines()) > 0, 30, lambda each=listener: each.cause.said)
        listener.cause.make_happen(lab.cluster, listener.job)
    # Slurm looks at time limits twice a minute.
    longest = 120 if any(cause.is_limit for cause in causes) else 45
    wait_until(lambda: all(is_over(lab, listener) for listener in listeners), longest, lambda: str(seen(listeners)))
    return listeners


def has_ended_once(lab: Lab, job: str) -> bool:
    shown = lab.cluster.show(job)
    # The count goes up before the tasks have ended.
    return shown["JobState"] in ENDED or (shown["Restarts"] != "0" and shown["JobState"] != "COMPLETING")


def is_over(lab: Lab, listener: Listener) -> bool:
    """Whether its cause has had all its consequences: a signal alone leaves the job running."""
    heard = [float(at) for at, _, what in listener.lines() if what != "up"]
    if listener.cause.command.startswith("scancel --signal"):
        return bool(heard) and time.time() - min(heard) > AT_ONCE_S
    return has_ended_once(lab, listener.job)


def seen(listeners: list[Listener]) -> list[tuple[str, str, str]]:
    return [(each.cause.said, each.heard("script"), each.heard("task")) for each in listeners]


@pytest.fixture
def telling_lab(make_lab) -> Lab:
    """A cluster that sends what --signal names at preemption too."""
    return make_lab(nodes=3, more=USER_SIGNAL)


@SIGNAL_MATRIX
@IN_PROOF_ONLY
def test_who_hears_what(lab, telling_lab, record_property):
    plain = [cause for cause in CAUSES if not cause.cluster]
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(hear, telling_lab, [cause for cause in CAUSES if cause.cluster])
        listeners = hear(lab, plain) + told.result()
    right = sum(
        (each.cause.script, each.cause.tasks) == (each.heard("script"), each.heard("task")) for each in listeners
    )
    record_property("measured", f"{right} of {len(CAUSES)} things are heard by those who docs/slurm.md says")
    assert seen(listeners) == [(each.cause.said, each.cause.script, each.cause.tasks) for each in listeners]


def what_came_of(lab: Lab, cause: Cause) -> str:
    """What a cause makes of a training run of one task, in the table's words."""
    run = lab.folder / f"run {CAUSES.index(cause)}"
    flags = "--num_epochs 100000 --checkpoint_every_steps 0 --save_every 100000".split()
    options = ["--nodes=1", *(["--time=2"] if cause.is_limit else []), *cause.options_of(60)]
    settings = lab.settings("signals.sh", "TASKS_PER_NODE=1\n")
    job = lab.submit(*options, "--", "train", *lab.flags(run, *flags), settings=settings)
    lab.wait_for_steps(job, run, 3)
    cause.make_happen(lab.cluster, job)
    until = time.monotonic() + (150 if cause.is_limit else 15 if "--signal" in cause.command else 60)
    while time.monotonic() < until and not has_ended_once(lab, job):
        time.sleep(0.2)
    if not has_ended_once(lab, job):
        return "trains on"
    saved = "saved" if any(line["event"] == "stopped" for line in lab.attempts(run)) else "not saved"
    return f"{saved}, {'requeued' if lab.cluster.show(job)['Restarts'] != '0' else 'not requeued'}"


@pytest.mark.promise(
    "the signal matrix of docs/slurm.md: what training makes of it",
    bar="every line as written",
    proof="slurm",
    full=True,
)
@pytest.mark.proof_only("takes a quarter of an hour", proof="slurm", full=True)
def test_what_training_makes_of_it(lab, telling_lab, record_property):
    found = {}
    for cause in CAUSES:
        where = telling_lab if cause.cluster else lab
        found[cause.said] = what_came_of(where, cause)
        print(f"{cause.said}: {found[cause.said]}", flush=True)
        where.cluster.run("scancel", "--user", "root", expect=None)
        where.cluster.wait_idle(60)
    right = sum(cause.training == found[cause.said] for cause in CAUSES)
    record_property("measured", f"of {right} of {len(CAUSES)} things training makes what docs/slurm.md says")
    assert found == {cause.said: cause.training for cause in CAUSES}


@SIGNAL_MATRIX
def test_the_documentation_has_this_table():
    text = (REPOSITORY / "docs" / "slurm.md").read_text()
    assert [cause.row for cause in CAUSES if cause.row not in text] == []
