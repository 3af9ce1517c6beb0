"""The end of a host tree of any kind."""

from __future__ import annotations

from dataclasses import replace

from harvest_agent.cgroups.bus import Bus, SystemBus
from harvest_agent.cgroups.kernel import CgroupError, Kernel, remove_below, undo, why
from harvest_agent.cgroups.slices import stop_slice, vm_of_slice
from harvest_agent.cgroups.tree import SYSTEMD, HostTree
from harvest_agent.cgroups.vm import VmCgroup


def remove_if_empty(tree: HostTree, kernel: Kernel, bus: Bus | None = None) -> None:
    """Removes the tree's own directories where no VM's is left in them."""
    if tree.driver == SYSTEMD:
        if vm_ids(tree, kernel):
            return  # stopping the slice would stop theirs
        try:
            stop_slice(bus or SystemBus(), tree.parent)
        except CgroupError:
            return
    undo(tree.paths, kernel)


def remove_host_tree(tree: HostTree, kernel: Kernel, bus: Bus | None = None) -> None:
    """Removes it with the empty VM directories in it. Raises CgroupError where a process is left inside."""
    if tree.driver == SYSTEMD:
        above = replace(tree, dirs={controller: path.parent for controller, path in tree.dirs.items()})
        if VmCgroup(above, tree.parent, kernel).occupied():
            raise CgroupError(f"cannot remove {tree.parent}: a process is inside")
        stop_slice(bus or SystemBus(), tree.parent)
    for path in tree.paths:
        try:
            remove_below(path, kernel)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise CgroupError(f"cannot remove the cgroup: {why(e)}") from e


def vm_ids(tree: HostTree, kernel: Kernel) -> list[str]:
    """The VMs that have a directory in it, in any hierarchy."""
    names = {child.name for path in tree.paths if kernel.exists(path) for child in kernel.children(path)}
    return sorted(filter(None, map(vm_of_slice, names)) if tree.driver == SYSTEMD else names)
