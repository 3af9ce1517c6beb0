"""The state folder of a local cluster: keys, logs, Redis data, and what `fallow up` left for the client commands."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from fallow.infra.tenant_keys import WELL_KNOWN, is_well_known, new_key
from fallow_cli.errors import CliError

STATE_VERSION = "1"


def default_state_dir() -> Path:
    """FALLOW_STATE_DIR, else fallow under XDG_STATE_HOME, else ~/.local/state/fallow."""
    if chosen := os.environ.get("FALLOW_STATE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "fallow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCluster:
    """What `up` writes for `down`, `status` and the client commands."""

    urls: list[str]  # one API URL a controller
    key: str
    operator_key: str
    pid: int  # of `fallow up`
    run_dir: str
    fleet_socket: str
    processes: dict[str, int] = field(default_factory=dict)  # name -> pid


def guest_key(state: StateDir) -> str:
    """The kept key of the namespace guest, made at first use. Raises CliError for one that everybody knows."""
    key = state.secret("guest")
    if is_well_known(key):
        raise CliError(f"the key in {state.path / 'guest.key'} is refused\n{WELL_KNOWN}")
    return key


class StateDir:
    """A versioned folder, 0700. Raises CliError if it belongs to another version or cannot be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def prepare(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            version_file = self.path / "version"
            if not version_file.exists():
                if any(p.name != "lock" for p in self.path.iterdir()):
                    raise CliError(
                        f"{self.path} is not empty and no state folder of Fallow\ngive another with --state-dir"
                    )
                version_file.write_text(STATE_VERSION + "\n")
            found = version_file.read_text().strip()
            if found != STATE_VERSION:
                raise CliError(
                    f"{self.path} is of state version {found!r}, this Fallow needs {STATE_VERSION!r}\n"
                    "give another folder with --state-dir, or move this one away"
                )
            for name in ("logs", "vms"):
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as e:
            raise CliError(
                f"cannot use the state folder {self.path}: {e.strerror}\ngive another one with --state-dir"
            ) from None

    def lock(self) -> None:
        """Hold the folder for this process's life. Raises CliError if another `up` holds it."""
        handle = (self.path / "lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise CliError(
                f"a cluster is running from {self.path} already\nstop it with `fallow down`, or give --state-dir"
            ) from None
        self._lock = handle

    @property
    def locked(self) -> bool:
        """Does this process hold the folder?"""
        return self._lock is not None

    def in_use(self) -> bool:
        """Does a running `up` or `demo` hold the folder?"""
        if not (self.path / "lock").exists():
            return False
        with (self.path / "lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def secret(self, name: str) -> str:
        """The key kept in `<name>.key` (0600), made at first use."""
        return self.private(f"{name}.key", new_key)

    def private(self, name: str, make: Callable[[], str]) -> str:
        """What the file of that name (0600) holds, made at first use."""
        path = self.path / name
        if path.exists():
            return path.read_text().strip()
        value = make()
        self._write_private(path, value + "\n")
        return value

    def known_secret(self, name: str) -> str | None:
        """The key kept in `<name>.key`, None where it was never made or may not be read."""
        try:
            return (self.path / f"{name}.key").read_text().strip()
        except OSError:
            return None

    def write_cluster(self, cluster: RunningCluster) -> None:
        self._write_private(self.path / "cluster.json", json.dumps(asdict(cluster), indent=1))

    def read_cluster(self) -> RunningCluster | None:
        """None where no cluster was left running. Raises CliError for a file that is not ours."""
        path = self.path / "cluster.json"
        try:
            return RunningCluster(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as e:
            raise CliError(f"cannot read {path}: {e}\nremove it if no cluster is running") from None

    def clear_cluster(self) -> None:
        (self.path / "cluster.json").unlink(missing_ok=True)

    @staticmethod
    def _write_private(path: Path, text: str) -> None:
        temporary = path.with_name(path.name + ".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(text)
        temporary.replace(path)
