"""Leases of the VMs on one Docker Engine: files that living agents touch, and what their ages say.

Containers outlive the agent that is killed beside them. So each VM has a file `<lease_dir>/<vm id>.lease`, and whoever
finds a VM's file untouched for LAPSE_S in two looks in a row may take the VM for dead. Two, because a machine that was
asleep wakes with every lease old, one look before their owners touch them again. All times are those of the file
system that holds the leases, the one clock that all VMs of an engine have in common.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RENEW_S = 1.0
LAPSE_S = 5.0
LOOK_S = 1.0
_SUFFIX = ".lease"  # what else lies in the folder is not ours to judge, or to remove


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one VM saw at one moment."""

    now_s: float  # the file system's clock
    touched_s: Mapping[str, float]  # VM id -> when its lease was last touched
    holding: frozenset[str]  # the VMs that have containers on this engine

    @property
    def known(self) -> frozenset[str]:
        return self.holding | frozenset(self.touched_s)

    @property
    def suspect(self) -> frozenset[str]:
        """What may be a dead VM, or have to do with one."""
        return self.holding | frozenset(vm_id for vm_id in self.touched_s if not self.fresh(vm_id))

    def fresh(self, vm_id: str) -> bool:
        touched_s = self.touched_s.get(vm_id)
        return touched_s is not None and self.now_s - touched_s < LAPSE_S


def lapsed(before: Look, now: Look) -> list[str]:
    """The dead VMs: known in both looks, by a lease or by containers, with a fresh lease in neither."""
    known = before.known & now.known
    return sorted(vm_id for vm_id in known if not before.fresh(vm_id) and not now.fresh(vm_id))


def still(before: Look, now: Look) -> list[str]:
    """The VMs with containers whose lease did not move between two looks: dead, or slower than the looks are apart."""
    return sorted(
        vm_id for vm_id in before.holding & now.holding if before.touched_s.get(vm_id) == now.touched_s.get(vm_id)
    )


def watches(vm_id: str, touched_s: Mapping[str, float], now_s: float) -> bool:
    """Whether it falls to this VM to look after the others: to the first, by id, of those whose lease is fresh.

    One asks the engine instead of all; when that one dies, its lease lapses like any other and the next takes over.
    """
    look = Look(now_s=now_s, touched_s=touched_s, holding=frozenset())
    return vm_id == min((other for other in touched_s if look.fresh(other)), default=vm_id)


class Leases:
    """The lease of one VM, and the sight of all. Every method raises OSError where the folder cannot be used."""

    def __init__(self, folder: Path, vm_id: str) -> None:
        self.vm_id = vm_id
        self._folder = folder
        self._path = self._of(vm_id)

    def renew(self) -> None:
        """Makes the lease, and the folder, where they are not there."""
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)

    def forget(self, vm_id: str) -> None:
        """Removes the lease of a dead VM. If it was alive after all, its next touch makes it anew."""
        self._of(vm_id).unlink(missing_ok=True)

    def look(self, holding: frozenset[str] = frozenset()) -> Look:
        """Renews, so that the own lease says what time it is."""
        self.renew()
        touched_s = {}
        for entry in os.scandir(self._folder):
            if entry.name.endswith(_SUFFIX):
                try:
                    touched_s[entry.name.removesuffix(_SUFFIX)] = entry.stat().st_mtime
                except FileNotFoundError:
                    continue  # dropped between the listing and the look
        return Look(now_s=touched_s[self.vm_id], touched_s=touched_s, holding=holding)

    def _of(self, vm_id: str) -> Path:
        return self._folder / f"{vm_id}{_SUFFIX}"
