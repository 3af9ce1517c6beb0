"""The first process of an emulated machine: makes a bare set of namespaces look like a host, runs its Docker Engine.

`hosts.py` starts it as process 1 of new pid, network, mount, host name, IPC and cgroup namespaces. It gives the machine
file systems of its own where an engine keeps state, says `booted`, waits for the line that tells it its network card is
plugged in, starts dockerd, and collects processes whose parents die, as process 1 must. It ends when the engine ends;
the kernel then ends what is left on the machine: so one whose process 1 is killed is gone like one without power.

    python machine.py NAME DISK ADDRESS HIERARCHY...

DISK is a folder for what an engine keeps (images, containers, its identity). A HIERARCHY is a mounted one of cgroup v1:
FOLDER=OPTIONS, for example `cpu,cpuacct=cpu,cpuacct` or `systemd=name=systemd`. Standard library only.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def main(name: str, disk: Path, address: str, hierarchies: list[str]) -> int:
    socket.sethostname(name)
    _mount_state(disk)
    _mount_cgroups(hierarchies)
    print("booted", flush=True)
    if not sys.stdin.readline():
        return 1  # whoever starts machines is gone
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    engine = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: engine.terminate())
    while True:
        pid, status = os.wait()
        if pid == engine.pid:
            return abs(os.waitstatus_to_exitcode(status))


def _mount_state(disk: Path) -> None:
    """What two engines on one machine must not share."""
    for path in ("/var/lib/docker", "/etc/docker"):
        own = disk / path.lstrip("/")
        own.mkdir(parents=True, exist_ok=True)
        Path(path).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(own), path)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")  # sockets, pid files, network namespaces
    Path("/run/dbus").mkdir()  # empty, as where no systemd runs


def _mount_cgroups(hierarchies: list[str]) -> None:
    """The machine's own part of each cgroup hierarchy, as if it were all; /sys shows its own network devices."""
    _run("mount", "-t", "sysfs", "sysfs", "/sys")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(CGROUPS))
    for hierarchy in hierarchies:
        folder, _, options = hierarchy.partition("=")
        (CGROUPS / folder).mkdir()
        _run("mount", "-t", "cgroup", "-o", options, "cgroup", str(CGROUPS / folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
