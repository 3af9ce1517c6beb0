"""Several hosts on one: emulated machines, each with a network card, an address and a Docker Engine of its own.

A machine is a set of namespaces (pid, network, mount, host name, IPC, cgroup) under a first process, `machine.py`, that
runs dockerd. Its network card is one end of a cable; the other end is plugged into a bridge in a network namespace of
its own, the *switch*, so that nothing is added to this host's network. Its disk is a folder in memory, its cgroups a
folder of each hierarchy. `Machine.power_off` kills the first process, and the kernel ends everything on the machine in
the same moment: no goodbye is said, no cgroup is tidied. Machines end with the process that uses this module, however
it ends; what a killed one leaves is removed by the next.

Needs root, cgroup v1, iproute2, util-linux, iptables and dockerd; the kernel's bridge, veth and vxlan. The machines
reach each other and nothing else: no registry, so `Hosts.load` brings images.

By hand: `python tests/swarm/hosts.py 3 IMAGE...` starts three that form a swarm and hold these images of this host's
engine, prints how to speak to them, and removes them at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.77.0"  # of the switch; nobody but machines and who enters the switch sees it
MACHINE = Path(__file__).with_name("machine.py")
_DISKS = Path("/var/tmp")  # where they are mounted; in memory, because images are many files, soon removed again
_PREFIX = "fallow-hosts-"
_CLONE_NEWNET = 0x40000000
# What a manager answers where it changed a node itself between the command's reading and writing: to be repeated.
OUT_OF_SEQUENCE = "update out of sequence"
_UPDATE_TRIES = 10
_ENGINE_START_S = 60.0
_COMMANDS = ("docker", "dockerd", "ip", "iptables", "mount", "nsenter", "setpriv", "unshare")
# Joins the machine's cgroups first: the cgroup namespace takes them for its root. Ends with whoever started it.
_BOOT = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
_OWN = ("--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc")


def why_not() -> str:
    """Why machines cannot be made here, "" where they can."""
    if os.geteuid() != 0:
        return "only root may make machines"
    if missing := [name for name in _COMMANDS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    try:
        _hierarchies()
    except HostError as e:
        return str(e)
    return ""


class HostError(Exception):
    """A machine cannot be made or does not do what it was told; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A mounted hierarchy of cgroup v1."""

    path: Path
    options: str  # "cpu,cpuacct", "name=systemd"


class Machine:
    """One emulated machine, on or off. Its disk outlives its being switched off."""

    def __init__(self, name: str, address: str, disk: Path, boot: Callable[[Machine], subprocess.Popen[str]]) -> None:
        self.name = name
        self.address = address
        self.disk = disk
        self._boot = boot
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of its first process, as this host counts."""
        if self._process is None:
            raise HostError(f"{self.name} is off")
        return _only_child(self._process)

    @property
    def engine_url(self) -> str:
        """How this host reaches the machine's engine: DOCKER_HOST. The path leads through the machine's own /run."""
        return f"unix:///proc/{self.pid}/root/run/docker.sock"

    @property
    def log(self) -> Path:
        return self.disk.with_suffix(".log")

    def docker(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What `docker ARGS` prints on this machine, stripped. Raises HostError with what it complained of."""
        command = ["docker", "--host", self.engine_url, *args]
        for _ in range(_UPDATE_TRIES):
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
            if done.returncode == 0 or OUT_OF_SEQUENCE not in done.stderr:
                break
            time.sleep(0.2)
        if check and done.returncode:
            raise HostError(f"docker {' '.join(args)} on {self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def power_on(self) -> None:
        """Boots and waits until the engine answers."""
        self.boot()
        self.wait_for_engine()

    def boot(self) -> None:
        """In the thread that lives longest: when it ends, the machine ends."""
        self._process = self._boot(self)

    def wait_for_engine(self) -> None:
        if self._process is None:
            raise HostError(f"{self.name} is off")
        end = time.monotonic() + _ENGINE_START_S
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(HostError):
                self.docker("version")
                return
            time.sleep(0.1)
        raise HostError(f"the engine of {self.name} does not answer:\n{self.log.read_text()[-2000:]}")

    def power_off(self) -> None:
        """The machine is gone at once, with all its processes."""
        if self._process is None:
            return
        os.kill(self.pid, signal.SIGKILL)
        self._process.communicate(timeout=30)
        self._process = None


class Hosts:
    """Machines on one switch. A context manager: at its end nothing of them is left."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self._hierarchies = _hierarchies()
        self._remove_leftovers()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_DISKS))
        self._held = _hold(self._folder)
        self._disks = self._folder / "disks"
        self._disks.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self._disks)], check=True)
        self._switch = self._start_switch()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tag(self) -> str:
        """Tells what belongs to these machines: the name of their folder and of their cgroups."""
        return self._folder.name

    def start(self, names: Sequence[str]) -> list[Machine]:
        """New machines whose engines answer."""
        made = [self._new(name) for name in names]
        for machine in made:
            machine.boot()
        for machine in made:
            machine.wait_for_engine()
        return made

    def load(self, images: Sequence[str], machines: Sequence[Machine] | None = None) -> None:
        """Copies images of this host's engine to the machines' engines, as a registry would."""
        archive = self._folder / "images.tar"
        subprocess.run(["docker", "save", "--output", str(archive), *images], check=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda m: m.docker("load", "--quiet", "--input", str(archive)), machines or self.machines))
        archive.unlink()

    def join(self, machines: Sequence[Machine] | None = None) -> None:
        """The machines form a swarm; the first one manages it. Called again, further ones join."""
        manager = self.machines[0]
        if manager.docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "active":
            manager.docker("swarm", "init", "--advertise-addr", manager.address)
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        for machine in machines or self.machines[1:]:
            machine.docker("swarm", "join", "--advertise-addr", machine.address, "--token", token, manager.address)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """This thread stands at the switch: connections it opens meanwhile go to the machines."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{self._switch_pid}/ns/net") as switch:
            if libc.setns(switch.fileno(), _CLONE_NEWNET):
                raise HostError(f"cannot enter the switch: {os.strerror(ctypes.get_errno())}")
            try:
                yield
            finally:
                libc.setns(home.fileno(), _CLONE_NEWNET)

    def at_switch(self, *command: str) -> list[str]:
        """The command line that runs a command where the machines can be reached."""
        return ["nsenter", f"--net=/proc/{self._switch_pid}/ns/net", *command]

    def close(self) -> None:
        for machine in self.machines:
            machine.power_off()
        self._switch.kill()
        self._switch.communicate()
        self._remove(self._folder)
        os.close(self._held)

    def _remove(self, folder: Path) -> None:
        for hierarchy in self._hierarchies:
            _remove_cgroup(hierarchy.path / folder.name)
        if (folder / "disks").is_mount():
            subprocess.run(["umount", str(folder / "disks")], check=True)
        shutil.rmtree(folder)

    def _remove_leftovers(self) -> None:
        """Of processes that were killed: nobody holds their folders."""
        for folder in _DISKS.glob(f"{_PREFIX}*"):
            with contextlib.suppress(BlockingIOError):
                held = _hold(folder)
                self._remove(folder)
                os.close(held)

    @property
    def _switch_pid(self) -> int:
        return _only_child(self._switch)

    def _start_switch(self) -> subprocess.Popen[str]:
        """A network namespace with a bridge. It lives as long as a process in it."""
        bridge = f"ip link add lan type bridge && ip address add {NETWORK}.254/24 dev lan && ip link set lan up"
        script = f"{bridge} && ip link set lo up && echo up && exec cat"
        process = subprocess.Popen(
            _with_us(["unshare", "--net", "--fork", "--kill-child", "sh", "-c", script]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdout is None or process.stdout.readline() != "up\n":
            raise HostError("no switch: this kernel or user may not make a bridge in a network namespace")
        return process

    def _new(self, name: str) -> Machine:
        machine = Machine(name, f"{NETWORK}.{len(self.machines) + 1}", self._disks / name, self._boot)
        machine.disk.mkdir()
        self.machines.append(machine)
        return machine

    def _boot(self, machine: Machine) -> subprocess.Popen[str]:
        roots = [h.path / self.tag / machine.name for h in self._hierarchies]
        for root in roots:
            _remove_cgroup(root)  # what it held when the power went
            _make_cgroup(root)
        mounts = [f"{h.path.name}={h.options}" for h in self._hierarchies]
        program = [sys.executable, str(MACHINE), machine.name, str(machine.disk), machine.address, *mounts]
        with machine.log.open("a") as log:
            process = subprocess.Popen(
                _with_us(["sh", "-c", _BOOT, "boot", *map(str, roots), "--", "unshare", *_OWN, *program]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            if process.stdin is None or process.stdout is None or process.stdout.readline() != "booted\n":
                raise HostError(f"{machine.name} does not boot:\n{machine.log.read_text()}")
            self._plug_in(machine, _only_child(process))
            process.stdin.write("plugged in\n")
            process.stdin.flush()
        except BaseException:
            process.kill()  # and with it the machine: nobody holds it yet who could switch it off
            process.communicate()
            raise
        return process

    def _plug_in(self, machine: Machine, pid: int) -> None:
        """A cable from the switch to the machine. It vanishes with the machine's end of it, but the kernel takes its
        time over that: the cable of before the power went is pulled out first."""
        port = f"to-{machine.name}"
        plug_in = f"ip link add {port} type veth peer name eth0 netns {pid} && ip link set {port} master lan up"
        pull_out = f"ip link delete {port} 2>/dev/null"  # complains where there is none, as at the first boot
        done = subprocess.run(self.at_switch("sh", "-c", f"{pull_out}; {plug_in}"), stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise HostError(f"no cable to {machine.name}: {done.stderr.strip()}")


def _hold(folder: Path) -> int:
    """Marks the folder as in use for as long as this process lives. Raises BlockingIOError where it is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def _with_us(command: list[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", *command]


def _only_child(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def _hierarchies() -> list[Hierarchy]:
    """What of cgroup v1 is mounted here. Raises HostError where nothing is."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split()
        if kind == "cgroup":
            told = [o for o in options.split(",") if o not in _MOUNT_OPTIONS and not o.startswith("release_agent=")]
            found.append(Hierarchy(path=Path(path), options=",".join(told)))
    if not found:
        raise HostError("emulated machines need cgroup v1, and none of its hierarchies is mounted on this host")
    return found


_MOUNT_OPTIONS = frozenset(["rw", "ro", "relatime", "noatime", "nosuid", "nodev", "noexec", "xattr", "clone_children"])


def _make_cgroup(path: Path) -> None:
    """The cgroup and those above it. In cpuset a new one has neither CPUs nor memory until told."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (folder / file).exists():
                (folder / file).write_text((folder.parent / file).read_text())


def _remove_cgroup(path: Path) -> None:
    """The cgroup and those below it. Their processes were killed, but the kernel may still be taking them down."""
    end = time.monotonic() + 10
    while path.exists():
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def main(count: int, images: list[str]) -> None:
    with Hosts() as hosts:
        hosts.start([f"host{i}" for i in range(1, count + 1)])
        if images:
            hosts.load(images)
        hosts.join()
        for machine in hosts.machines:
            print(f"{machine.name}  {machine.address}  DOCKER_HOST={machine.engine_url}")
        print("reach them with:", *hosts.at_switch("COMMAND"))
        print("Ctrl-C ends them", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(int(sys.argv[1]), sys.argv[2:])
