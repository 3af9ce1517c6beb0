"""Finds the cgroup hierarchies of this machine from what the kernel shows of itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Set in the environment of the process that runs inside a scope of the systemd user manager.
IN_SCOPE = "FALLOW_IN_SCOPE"
# What stands among a version 1 mount's controllers and is none.
_OPTIONS = ("rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods", "noprefix")
# How engines name the cgroup of a container, by the cgroupfs and the systemd driver.
_CONTAINER_CGROUP = re.compile(r"[/-][0-9a-f]{64}(?:\.scope)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One controller of version 1, one of its hierarchies without ("name=systemd"), or version 2 (controller "")."""

    version: int
    controller: str
    path: Path
    root: str  # the cgroup that the mount point shows; "/" outside cgroup namespaces


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The cgroup mounts in `/proc/self/mountinfo`; a mount of several controllers counts for each."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        words, kinds = left.split(), right.split()
        if len(words) < 5 or len(kinds) < 3:
            continue
        path, root = Path(_unescape(words[4])), _unescape(words[3])
        if kinds[0] == "cgroup2":
            found.append(Mount(version=2, controller="", path=path, root=root))
        elif kinds[0] == "cgroup":
            named = (o for o in kinds[2].split(",") if o not in _OPTIONS)
            options = (o for o in named if "=" not in o or o.startswith("name="))
            found += [Mount(version=1, controller=c, path=path, root=root) for c in options]
    return found


def parse_own(text: str) -> dict[str, str]:
    """`/proc/self/cgroup`: this process's cgroup per controller ("" = version 2)."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            own[controller] = path
    return own


def in_engines_namespace(own: Mapping[str, str]) -> bool:
    """Is this process in a container that shares the cgroup namespace of its engine?

    It is where its own cgroup bears the name that the engine gave it, a container id; in a namespace of its own it
    would see "/". `own` as from parse_own.
    """
    return any(_CONTAINER_CGROUP.search(path) for path in own.values())


def relative_path(mount: Mount, cgroup: str) -> Path:
    """Where a cgroup stands under its mount point. A container's mount may show only its own part of the tree."""
    if mount.root != "/":
        cgroup = cgroup.removeprefix(mount.root) if cgroup.startswith(mount.root) else "/"
    return mount.path / cgroup.strip("/") if cgroup.strip("/") and ".." not in cgroup else mount.path


def enter_user_scope(argv: list[str], *, timeout_s: float = 5.0) -> None:
    """Where an ordinary user can have a delegated scope of the systemd user manager, starts this process anew inside.

    `argv` is the command to become; the process id stays, as systemd-run executes it in place. Returns where there is
    nothing to enter: root, already inside, no version 2 mount, or a user manager that does not pass cpu on.
    """
    if os.geteuid() == 0 or os.environ.get(IN_SCOPE) or not _user_manager_has_cpu():
        return
    scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]
    try:
        probe = subprocess.run([*scope, "true"], timeout=timeout_s, check=False, capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return
    if probe.returncode == 0:
        os.execvpe(scope[0], [*scope, *argv], {**os.environ, IN_SCOPE: "1"})


def _user_manager_has_cpu() -> bool:
    uid = os.geteuid()
    for mount in parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        if mount.version == 2:
            service = mount.path / f"user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"
            try:
                return "cpu" in service.read_text(encoding="ascii").split()
            except OSError:
                return False
    return False


def _unescape(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
