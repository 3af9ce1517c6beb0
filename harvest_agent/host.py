"""The machine under the VMs: where their cgroups may be made, and that they end up empty."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from fallow.infra import clock
from harvest_agent import processes
from harvest_agent.cgroup_find import IN_SCOPE, Mount, in_engines_namespace, parse_mounts, parse_own, relative_path
from harvest_agent.cgroups import (
    CgroupError,
    HostTree,
    Kernel,
    VmCgroup,
    make_docker_tree,
    make_host_tree,
    remove_host_tree,
    vm_cgroup,
    vm_ids,
)

if TYPE_CHECKING:  # the SDK is no part of a process that runs without Docker
    from fallow.infra.engine import EngineInfo
    from harvest_agent.cgroups.bus import Bus

_DOCKER_SOCKET = "/var/run/docker.sock"
_CONNECT_TIMEOUT_S = 1.0

AUTO = "auto"
NONE = "none"
AUTO_NAME = "fallow-{}"  # with the pid of the process that made it


def tree_of(root: str, kernel: Kernel) -> tuple[HostTree, bool]:
    """The host tree that the setting `cgroup_root` means, and whether it was made here (and is ours to remove).

    `auto` makes one named after this process, another plain name makes that one, a tree in the fleet's words is used
    as it is. Raises CgroupError, for `none` too (`none:reason` gives the fleet's own): its text is the note that
    people read.
    """
    if root == NONE or root.startswith(NONE + ":"):
        raise CgroupError(root.removeprefix(NONE).removeprefix(":") or "switched off (cgroup_root = none)")
    if "|" in root:
        try:
            return HostTree.decode(root), False
        except ValueError as e:
            raise CgroupError(str(e)) from None
    return make_tree(AUTO_NAME.format(os.getpid()) if root == AUTO else root, kernel), True


def make_tree(name: str, kernel: Kernel) -> HostTree:
    """Raises CgroupError saying why no cgroup may be written here."""
    if not name or "/" in name or name in (".", ".."):
        raise CgroupError(f"{name!r} is not a name for a cgroup")
    mounts, own = _seen()
    return make_host_tree(mounts, own, name, kernel, in_scope=bool(os.environ.get(IN_SCOPE)))


def docker_tree(cluster: str, engine: EngineInfo, kernel: Kernel) -> HostTree:
    """The cluster's tree for the containers of this machine's Docker Engine: every VM of it there shares the tree.

    Raises CgroupError saying why the containers' CPU cannot be enforced from here.
    """
    mounts, own = _seen()
    beside = in_engines_namespace(own) or _engine_beside()
    return make_docker_tree(cluster, engine, mounts, kernel, beside=beside)


def _engine_beside() -> bool:
    """Does the engine (or what listens for it) run in this process's cgroup namespace? False where it cannot be seen,
    as from a container that has only its socket."""
    address = os.environ.get("DOCKER_HOST") or _DOCKER_SOCKET
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(_CONNECT_TIMEOUT_S)
        try:
            link.connect(address.removeprefix("unix://"))
            pid, _, _ = struct.unpack(
                "3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            )
            return os.readlink(f"/proc/{pid}/ns/cgroup") == os.readlink("/proc/self/ns/cgroup")
        except OSError:
            return False


def bases() -> list[Path]:
    """Every directory in which `make_tree` may make a tree. Raises CgroupError."""
    mounts, own = _seen()
    ours = [m for m in mounts if m.controller in ("cpu", "cpuacct", "freezer", "")]
    found = [relative_path(m, own.get(m.controller, "/")) for m in ours]
    return list(dict.fromkeys([*found, *(m.path for m in ours if m.version == 2)]))


def _seen() -> tuple[list[Mount], dict[str, str]]:
    """The cgroup mounts of this machine, and the cgroups of this process."""
    try:
        mounts = parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        own = parse_own(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError as e:
        raise CgroupError(f"{e.filename}: {e.strerror}") from e
    return mounts, own


def encode_root(root: str, kernel: Kernel) -> tuple[str, HostTree | None]:
    """What the fleet gives its agents as `cgroup_root`, and the tree that it has to remove in the end."""
    try:
        tree, mine = tree_of(root, kernel)
    except CgroupError as e:
        return f"{NONE}:{e}", None
    return tree.encode(), tree if mine else None


async def empty(cgroup: VmCgroup, *, timeout_s: float) -> bool:
    """Kills what is inside until nothing is; False where something outlived `timeout_s`. Raises CgroupError."""
    deadline_mono_s = clock.mono_s() + timeout_s
    while pids := [pid for pid in cgroup.pids() if pid != os.getpid()]:
        if clock.mono_s() > deadline_mono_s:
            return False
        processes.send(pids, signal.SIGKILL)
        await asyncio.sleep(0.01)
    return True


async def clear_tree(tree: HostTree, kernel: Kernel, *, timeout_s: float, bus: Bus | None = None) -> None:
    """Removes it with all that is inside, frozen or not; `timeout_s` is for each VM. Raises CgroupError."""
    for vm_id in vm_ids(tree, kernel):
        vm = vm_cgroup(tree, vm_id, kernel, bus)
        vm.kill()
        vm.freeze(False)
        await empty(vm, timeout_s=timeout_s)
        vm.remove()
    remove_host_tree(tree, kernel, bus)
