"""Removes the empty cgroups of fleets that nobody clears up after, as their state folder is never used again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from fallow.infra.log import get_logger
from harvest_agent import host, processes
from harvest_agent.cgroups import CgroupError, Kernel, remove_below

_log = get_logger("harvest_agent.sweep")


def sweep(kernel: Kernel) -> None:
    """Looks where this process would make its own tree. What cannot be removed is logged and stays.

    Fleets must see each other's process ids: two that share a cgroup file system but no PID namespace would take each
    other for dead.
    """
    try:
        bases = host.bases()
    except CgroupError:
        return  # no cgroup can be seen here, so none was left
    sweep_below(bases, kernel, may_own)


def sweep_below(bases: Iterable[Path], kernel: Kernel, owned_by: Callable[[int], bool]) -> None:
    for base in bases:
        try:
            found = kernel.children(base)
        except OSError:
            continue  # a mount that may not be read holds nothing of ours
        for tree in found:
            name = re.fullmatch(host.AUTO_NAME.format(r"(\d+)"), tree.name)
            if name is None or owned_by(int(name[1])):
                continue
            try:
                remove_below(tree, kernel)
                _log.info("removed the cgroup of a dead fleet", path=str(tree))
            except FileNotFoundError:
                continue  # another fleet that starts was faster
            except OSError as e:
                _log.warning("the cgroup of a dead fleet is left behind", path=str(tree), error=e.strerror)


def may_own(pid: int) -> bool:
    """Can this process be the fleet or agent that a tree is named after, and not one that got its pid later?"""
    found = processes.read_process(pid)
    if found is None or found.state == "Z":
        return False
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python")
    except FileNotFoundError:
        return False  # a kernel thread, or gone by now
    except PermissionError:
        return True  # another user's: not ours to judge
