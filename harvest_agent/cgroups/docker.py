"""The host tree for Docker's containers: it stands where the engine looks for a container's `--cgroup-parent`.

With the cgroupfs driver the engine takes an absolute name from the root of every hierarchy: `/fallow_<cluster>/<vm>`.
It makes the parent where it is missing, without a quota, in every hierarchy of version 1, and never removes it: so
all is made and capped before the first container, and removed in every hierarchy in the end. With the systemd driver
it takes a slice (see `slices`).

A process in a container (a service of compose) reaches the same directories through a bind of the host's
`/sys/fs/cgroup`; a container's own mount shows only the container's part.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harvest_agent.cgroup_find import Mount
from harvest_agent.cgroups.bus import Bus, SystemBus
from harvest_agent.cgroups.kernel import CgroupError, Kernel, undo, why
from harvest_agent.cgroups.slices import SliceCgroup, start_slice, unit_part
from harvest_agent.cgroups.tree import CGROUPFS, SYSTEMD, HostTree, enable
from harvest_agent.cgroups.vm import USED_V1, VmCgroup

if TYPE_CHECKING:  # the SDK is no part of a process that runs without Docker
    from fallow.infra.engine import EngineInfo

TREE_NAME = "fallow_{}"  # with the cluster; never a process id, so no sweep takes it for a dead fleet's


def make_docker_tree(
    cluster: str,
    engine: EngineInfo,
    mounts: list[Mount],
    kernel: Kernel,
    bus: Bus | None = None,
    *,
    beside: bool = False,
) -> HostTree:
    """Makes the cluster's tree, or takes it over where a VM of the cluster made it before.

    `beside` says that the engine runs in this process's cgroup namespace, and so takes for a hierarchy's root what is
    mounted as one here, even inside a container that has an engine of its own.

    Raises CgroupError with the reason why the engine's containers cannot be capped from here.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", cluster):
        raise CgroupError(f"{cluster!r} is not a name for a cgroup")
    if engine.rootless:
        raise CgroupError("the Docker Engine is rootless: its cgroups are out of reach")
    if engine.cgroup_driver not in (CGROUPFS, SYSTEMD):
        raise CgroupError(f"the Docker Engine's cgroup driver is {engine.cgroup_driver!r}, which is not known here")
    roots = _roots(engine.cgroup_version, mounts, kernel, beside=beside)
    in_systemd = engine.cgroup_driver == SYSTEMD
    name = f"{TREE_NAME.format(unit_part(cluster))}.slice" if in_systemd else TREE_NAME.format(cluster)
    tree = HostTree(
        version=engine.cgroup_version,
        dirs={controller: path / name for controller, path in roots.items()},
        driver=engine.cgroup_driver,
        parent=name if in_systemd else f"/{name}",
    )
    if in_systemd:
        start_slice(bus or SystemBus(), name, [])
        return tree
    try:
        _make(tree, kernel)
    except OSError as e:
        raise CgroupError(why(e)) from e
    return tree


def vm_cgroup(tree: HostTree, vm_id: str, kernel: Kernel, bus: Bus | None = None) -> VmCgroup:
    """The VM's cgroup in a tree of any kind; none is made yet."""
    if tree.driver == SYSTEMD:
        return SliceCgroup(tree, vm_id, kernel, bus or SystemBus())
    return VmCgroup(tree, vm_id, kernel)


def _roots(version: int, mounts: list[Mount], kernel: Kernel, *, beside: bool) -> dict[str, Path]:
    """Where each hierarchy's root can be seen; the version is the engine's. Raises CgroupError."""
    whole = [m for m in mounts if _shows_root(m, kernel) or (beside and m.root == "/")]
    if version == 2:
        found = {m.controller: m.path for m in whole if m.version == 2}
        needed = ""
    else:  # on a hybrid machine the engine makes directories in version 2's hierarchy as well
        found = {m.controller: m.path for m in sorted(whole, key=lambda m: m.version)}
        needed = "cpu"
    if needed in found:
        return found
    if any(m.controller == needed and m.version == version for m in mounts):
        raise CgroupError("only a part of the cgroup file system shows here: bind the host's /sys/fs/cgroup read-write")
    raise CgroupError(f"no cgroup file system of version {version} with a cpu controller is mounted here")


def _shows_root(mount: Mount, kernel: Kernel) -> bool:
    """Files that only the root of a hierarchy has (or lacks) tell; names do not, inside a cgroup namespace."""
    if mount.version == 1:
        return kernel.exists(mount.path / "release_agent")
    return not kernel.exists(mount.path / "cgroup.type")


def _make(tree: HostTree, kernel: Kernel) -> None:
    made: list[Path] = []
    try:
        for controller, path in tree.dirs.items():
            if tree.version == 2:
                enable(path.parent, kernel, further=("memory", "pids"))
            elif controller not in USED_V1:
                continue
            if not kernel.exists(path):
                kernel.make(path)
                made.append(path)
                _count_below(path, kernel)
        if tree.version == 2:
            enable(tree.dirs[""], kernel, further=("memory", "pids"))
        else:
            kernel.write(tree.dirs["cpu"] / "cpu.cfs_quota_us", "-1")  # shows now whether a quota may be written
    except OSError:
        undo(made, kernel)
        raise


def _count_below(path: Path, kernel: Kernel) -> None:
    """Version 1 before Linux 5.11: the memory of the directories below counts only where this is set, and is inherited
    from then on."""
    switch = path / "memory.use_hierarchy"
    if kernel.exists(switch) and kernel.read(switch).strip() == "0":
        kernel.write(switch, "1")
