"""What a fleet leaves in its state folder so that the next one can clear up after a kill -9."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.tasks import FatalError
from harvest_agent import host, processes
from harvest_agent.cgroups import CgroupError, HostTree, Kernel

_KILL_TIMEOUT_S = 5.0
_ENDING_TIMEOUT_S = 5.0

_log = get_logger("harvest_agent.ledger")


class FleetLedger:
    """One small file: which process uses the folder, and the host tree it made (None where it may write no cgroup)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def recover(self, kernel: Kernel) -> tuple[str, HostTree | None]:
        """Empties and removes the tree of a fleet that is dead. Raises FatalError while that fleet lives.

        Where containers were Docker's it answers their cluster, else "", and the tree: the caller clears both.
        One that is just ending, as after a kill of its parent, is waited for.
        """
        try:
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            pid, start_ticks = int(raw["pid"]), int(raw["start_ticks"])
            tree = HostTree.decode(raw["tree"]) if raw["tree"] else None
            cluster = str(raw.get("cluster", ""))
        except FileNotFoundError:
            return "", None
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise FatalError(f"{self._path} is damaged ({e!r}); remove it if no fleet uses this folder") from None
        deadline_mono_s = mono_s() + _ENDING_TIMEOUT_S
        while (alive := _lives(pid, start_ticks)) and mono_s() < deadline_mono_s:  # noqa: ASYNC110  # of another process there is no event
            await asyncio.sleep(0.1)
        if alive:
            raise FatalError(f"the fleet with pid {pid} still uses {self._path.parent}; stop it first")
        if cluster:
            return cluster, tree
        if tree is not None:
            try:
                await host.clear_tree(tree, kernel, timeout_s=_KILL_TIMEOUT_S)
            except CgroupError as e:
                _log.warning("the cgroups of a dead fleet cannot be removed", error=str(e))
        self._path.unlink(missing_ok=True)
        return "", None

    def write(self, tree: HostTree | None, *, cluster: str = "") -> None:
        """`cluster` where containers are Docker's."""
        me = processes.read_process(os.getpid())
        assert me is not None  # /proc without this process in it is no /proc
        entry = {
            "pid": me.pid,
            "start_ticks": me.start_ticks,
            "tree": "" if tree is None else tree.encode(),
            "cluster": cluster,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(entry), encoding="utf-8")

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


def _lives(pid: int, start_ticks: int) -> bool:
    """Is the process there that started then, and is it another than this one?"""
    found = processes.read_process(pid)
    return found is not None and found.start_ticks == start_ticks and found.state != "Z" and pid != os.getpid()
