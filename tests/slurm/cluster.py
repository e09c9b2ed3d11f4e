"""A real Slurm cluster on this machine, for as long as it is needed: munged, slurmctld and a slurmd for each node.

Each node has a network, name, process and /dev/shm namespace of its own, so that it has an address, can lose power
(`cut_power`) or its cable (`unplug`), and shares files with the others as nodes share them over a file server. Needs
root, Debian's packages slurm-wlm and munge, and leave to make namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "nsenter", "unshare")
_SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_PR_SET_PDEATHSIG = 1
# States in which a job comes to rest.
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"}

CONFIGURATION = """\
ClusterName=faceid{number}
SlurmctldHost={host}({network}.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also what a requeued job waits before it may start again: two minutes by default, and for less than 5.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
# No cgroups: containers have none to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
ReturnToService=2
# Short, so that tests are short.
SlurmctldTimeout=10
SlurmdTimeout={node_timeout_s}
MessageTimeout=5
TCPTimeout=2
KillWait={kill_wait_s}
BatchStartTimeout=10
InactiveLimit=0
MinJobAge=3600
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{more}
AccountingStorageType=accounting_storage/none
{node_lines}
PartitionName=DEFAULT Nodes=n[1-{nodes}] PreemptMode=OFF MaxTime=60 DefaultTime=10 State=UP
PartitionName=main Default=YES PriorityTier=5
PartitionName=high PriorityTier=10
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=low0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=lowcancel PriorityTier=1 PreemptMode=CANCEL GraceTime={grace_s}
"""
# The first process of a node: when it ends, all of the node's end with it.
NODE = """\
hostname "$2"
mount --bind "$1/hosts-$2" /etc/hosts
# A node reaches no name server; each question to one would take ten seconds.
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount -t tmpfs none /dev/shm
slurmd -D -N "$2" -f "$1/slurm.conf" &
while :; do sleep 3600 & wait $!; done
"""


def reason_to_skip() -> str | None:
    """Why no cluster can be made here; None when one can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in NEEDED if shutil.which(name, path=_SEARCHED) is None]
    if missing:
        return f"{', '.join(missing)} missing: make slurm-packages"
    tried = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "true"]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        return "namespaces are not allowed here"
    return None


@dataclass
class Cluster:
    """`nodes` nodes n1, n2, ... until `stop`. more: further lines of slurm.conf.

    gpus: that Slurm believes each node has; it counts devices (/dev/null by other names), and hands them out.
    """

    nodes: int = 3
    gpus: int = 0
    grace_s: int = 20
    kill_wait_s: int = 8
    node_timeout_s: int = 10
    more: str = ""
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self._processes: dict[str, subprocess.Popen] = {}
        self._number = self._take_number()
        self.folder = Path(tempfile.mkdtemp(prefix=f"faceid-slurm-{self._number}-"))
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "PYTEST_"))},
            "PATH": _SEARCHED,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    # --- jobs

    def run(self, *command: str, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess:
        """Run a command where a user would: in the repository, with the cluster's clients."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"exit {done.returncode}, not {expect}: {command}\n{done.stdout}\n{done.stderr}")
        return done

    def take_nodes(self, *which: str) -> str:
        """Another job wants nodes for itself (options of sbatch), before all jobs of the low partitions; its id."""
        words = ["sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null", *which]
        return self.run(*words, "--wrap", "sleep 1").stdout.strip()

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says, by key."""
        text = self.run("scontrol", "show", "job", "--oneliner", job).stdout.splitlines()[0]
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def state(self, job: str) -> str:
        """Of a job or, of an array, its tasks: the states there are, sorted, with a comma between."""
        out = self.run("scontrol", "show", "job", "--oneliner", job).stdout
        return ",".join(sorted({word.split("=")[1] for word in out.split() if word.startswith("JobState=")}))

    def wait(self, job: str, states: Collection[str] = ("COMPLETED",), timeout_s: float = 120) -> str:
        """Wait until a job (all tasks of an array) is in one of the states. Raises when it rests in another one."""
        resting = ENDED | set(states)
        wait_until(
            lambda: set(self.state(job).split(",")) <= resting, timeout_s, lambda: f"job {job}: {self.state(job)}"
        )
        state = self.state(job)
        assert set(state.split(",")) <= set(states), f"job {job} is {state}"
        return state

    # --- what happens to nodes

    def cut_power(self, node: str) -> None:
        """Every process of the node ends at once."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def start_node(self, node: str) -> None:
        """Start a node, or one whose power was cut."""
        self._spawn(
            node,
            *("nsenter", f"--net=/run/netns/{self._netns(node)}"),
            *(
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ),
            *("bash", str(self.folder / "node"), str(self.folder), node),
        )

    def unplug(self, node: str) -> None:
        """Take out the node's network cable: its processes go on."""
        self._ip("link", "set", self._cable(node), "down")

    def plug_in(self, node: str) -> None:
        """Put it back."""
        self._ip("link", "set", self._cable(node), "up")

    @contextlib.contextmanager
    def name_is_loopback(self) -> Iterator[None]:
        """Let each node take its own name for 127.0.1.1, as Debian's installer has it."""
        files = {path: path.name.removeprefix("hosts-") for path in self.folder.glob("hosts-n*")}
        for path, name in files.items():
            path.write_text(self._hosts.replace(f"{self.address(name)} {name}\n", f"127.0.1.1 {name}\n"))
        yield
        for path in files:
            path.write_text(self._hosts)

    def restart_controller(self, away_s: float = 0.0) -> None:
        """Kill slurmctld, and start it again after a while."""
        process = self._processes.pop("slurmctld")
        process.kill()
        process.wait()
        time.sleep(away_s)
        self._start_controller()
        wait_until(lambda: self.run("scontrol", "ping", expect=None).returncode == 0, 30, lambda: "no slurmctld")

    def is_up(self, node: str) -> bool:
        """Whether the node has power and its slurmd runs."""
        return node in self._processes and self._processes[node].poll() is None

    def inside(self, node: str, *command: str) -> subprocess.CompletedProcess:
        """Run a command in the node's namespaces."""
        unshare = self._processes[node].pid
        first = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
        return subprocess.run(
            ["nsenter", "-t", first, "-m", "-u", "-n", "-p", "--", *command],
            capture_output=True,
            text=True,
            check=False,
        )

    def wait_idle(self, timeout_s: float = 30) -> None:
        """Wait until every node is idle."""

        def are_idle() -> bool:
            said = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T", expect=None).stdout.split()
            return len(said) == 2 * self.nodes and set(said[1::2]) == {"idle"}

        wait_until(are_idle, timeout_s, lambda: self.run("sinfo", "-N", expect=None).stdout)

    def stop(self) -> None:
        """End everything and leave nothing: no process, network, file."""
        for name in [*(name for name in self._processes if name.startswith("n")), "slurmctld", "munged"]:
            process = self._processes.pop(name, None)
            if process is not None:
                process.kill()
                process.wait()
        _remove_networks(self._number)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    # --- its parts

    def _start(self) -> None:
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        names = [f"n{number}" for number in range(1, self.nodes + 1)]
        self._write_files(names)
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._ip("addr", "add", f"{self._network}.1/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        for name in names:
            self._ip("netns", "add", self._netns(name))
            self._ip(
                "link", "add", self._cable(name), "type", "veth", "peer", "name", "eth0", "netns", self._netns(name)
            )
            self._ip("link", "set", self._cable(name), "master", self._bridge, "up")
            self._ip("-n", self._netns(name), "link", "set", "lo", "up")
            self._ip("-n", self._netns(name), "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            self._ip("-n", self._netns(name), "link", "set", "eth0", "up")
            self._ip("-n", self._netns(name), "route", "add", "default", "via", f"{self._network}.1")
        munged = ["munged", "--foreground", "--force", f"--key-file={self.folder / 'munge.key'}"]
        munged += [f"--socket={self.folder / 'munge.sock'}", f"--pid-file={self.folder / 'munged.pid'}"]
        self._spawn("munged", *munged, f"--seed-file={self.folder / 'munge.seed'}", "--num-threads=4")
        wait_until(lambda: (self.folder / "munge.sock").exists(), 10, lambda: "no munged")
        self._start_controller()
        for name in names:
            self.start_node(name)
        self.wait_idle()

    def _write_files(self, names: list[str]) -> None:
        host = os.uname().nodename.split(".")[0]
        gres = f" Gres=gpu:{self.gpus}" if self.gpus else ""
        configuration = CONFIGURATION.format(
            number=self._number,
            host=host,
            network=self._network,
            controller_port=46100 + self._number,
            node_port=46200 + self._number,
            folder=self.folder,
            nodes=self.nodes,
            grace_s=self.grace_s,
            kill_wait_s=self.kill_wait_s,
            node_timeout_s=self.node_timeout_s,
            more=self.more + ("\nGresTypes=gpu" if self.gpus else ""),
            # One line a node: each has an address that no name server knows.
            node_lines="\n".join(
                f"NodeName={name} NodeAddr={self.address(name)} CPUs=16 RealMemory=16000 State=UNKNOWN{gres}"
                for name in names
            ),
        )
        (self.folder / "slurm.conf").write_text(configuration)
        if self.gpus:
            for number in range(self.gpus):
                os.mknod(self.folder / f"gpu{number}", 0o600 | stat.S_IFCHR, Path("/dev/null").stat().st_rdev)
            devices = f"{self.folder}/gpu[0-{self.gpus - 1}]"
            (self.folder / "gres.conf").write_text(f"NodeName=n[1-{self.nodes}] Name=gpu File={devices}\n")
        (self.folder / "cgroup.conf").write_text("ConstrainDevices=no\n")
        hosts = [
            "127.0.0.1 localhost",
            *(f"{self.address(name)} {name}" for name in names),
            f"{self._network}.1 {host}",
        ]
        self._hosts = "\n".join(hosts) + "\n"
        for name in names:
            (self.folder / f"hosts-{name}").write_text(self._hosts)
        kept = [line for line in Path("/etc/nsswitch.conf").read_text().splitlines() if not line.startswith("hosts:")]
        (self.folder / "nsswitch.conf").write_text("\n".join([*kept, "hosts: files"]) + "\n")
        (self.folder / "node").write_text(NODE)
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))

    def _start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def address(self, node: str) -> str:
        """The node's own."""
        return f"{self._network}.{10 + int(node[1:])}"

    @property
    def _network(self) -> str:
        return f"10.78.{self._number}"

    @property
    def _bridge(self) -> str:
        return f"fslb{self._number}"

    def _cable(self, node: str) -> str:
        return f"{self._bridge}-{node}"

    def _netns(self, node: str) -> str:
        return f"fsl{self._number}{node}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, env={"PATH": _SEARCHED})

    def _take_number(self) -> int:
        """A number that no other cluster of this machine has, cleaned of what a killed one left."""
        for number in range(100):
            self._lock = Path(f"/run/lock/faceid-slurm-{number}").open("w")  # noqa: SIM115  # as long as the cluster
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_networks(number)
                for left in Path(tempfile.gettempdir()).glob(f"faceid-slurm-{number}-*"):
                    shutil.rmtree(left, ignore_errors=True)
                return number
            self._lock.close()
        raise AssertionError("a hundred clusters are running here")


def wait_until(condition: Callable[[], object], timeout_s: float, say: Callable[[], str]) -> float:
    """Wait for something; the seconds it took. say: what to raise AssertionError with when it does not come."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > timeout_s:
            raise AssertionError(f"not within {timeout_s:.0f} s: {say()}")
        # What is asked for is often a process; two cores are few.
        time.sleep(0.1 if waited < 2 else 0.4)
    return time.monotonic() - began


def _remove_networks(number: int) -> None:
    for path in Path("/run/netns").glob(f"fsl{number}n*"):
        subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False, env={"PATH": _SEARCHED})
    for path in Path("/sys/class/net").glob(f"fslb{number}-n*"):
        subprocess.run(["ip", "link", "del", path.name], capture_output=True, check=False, env={"PATH": _SEARCHED})
    subprocess.run(["ip", "link", "del", f"fslb{number}"], capture_output=True, check=False, env={"PATH": _SEARCHED})


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
