"""The spawner's protocol, spoken as the invoker does."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SPAWNER = Path(__file__).parents[2] / "functions" / "runtimes" / "python" / "spawner.py"
LIMIT_S = 20.0


class Spawner:
    def __init__(self, room: int = 500) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(LIMIT_S)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", str(SPAWNER)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env={"ROOM": "." * room},
            )
        self.left: list[int] = []  # ends of containers' standard input, held open
        assert self.hear() == {"ready": True}

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.control.recv(1 << 16))
        return heard

    def order(self, number: int, *, fds: int = 4, **changes: object) -> socket.socket:
        """Its connection."""
        home = self.folder / f"c{number}"
        home.mkdir()
        ours, conn = socket.socketpair()
        ours.settimeout(LIMIT_S)
        stdin, hold = os.pipe()
        self.left.append(hold)
        with conn, (home / "out").open("w") as out:
            order = {
                "id": number,
                "home": str(home),
                "memory_mb": 64,
                "env": {"HOME": str(home)},
                "path": [],
                "program": [],
                **changes,
            }
            given = [conn.fileno(), stdin, out.fileno(), out.fileno()][:fds]
            socket.send_fds(self.control, [json.dumps(order).encode()], given)
        os.close(stdin)
        return ours

    def close(self) -> None:
        self.control.close()
        self.process.wait(LIMIT_S)
        for fd in self.left:
            os.close(fd)
        shutil.rmtree(self.folder)


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    made = Spawner()
    yield made
    made.close()


def post(conn: socket.socket, path: str, value: object) -> bytes:
    body = json.dumps({"value": value}).encode()
    conn.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return conn.recv(1 << 16).rpartition(b"\r\n\r\n")[2]


def test_forks_serve_side_by_side_and_their_ends_are_told(spawner: Spawner) -> None:
    first, second = spawner.order(1), spawner.order(2)
    pids = {told["id"]: told["pid"] for told in (spawner.hear(), spawner.hear())}
    burn = (
        "import time, os\ndef main(a):\n    end = time.process_time() + 0.1\n"
        "    while time.process_time() < end: pass\n    os._exit(a['code'])"
    )
    for conn in (first, second):
        assert post(conn, "/init", {"code": burn}) == b'{"ok":true}'
    assert post(first, "/run", {"code": 7}) == b""
    told = spawner.hear()
    assert (told["id"], told["code"]) == (1, 7)
    assert 0.1 <= told["cpu_s"] < 5
    os.kill(pids[2], signal.SIGKILL)
    told = spawner.hear()
    assert (told["id"], told["code"]) == (2, -signal.SIGKILL)
    assert told["cpu_s"] < 0.1
    first.close()
    second.close()


def test_a_container_ends_with_its_connection_or_its_standard_input(spawner: Spawner) -> None:
    spawner.order(1).close()
    assert [spawner.hear().get("pid") is None, spawner.hear().get("code")] == [False, 0]
    conn = spawner.order(2)
    assert "pid" in spawner.hear()
    os.close(spawner.left.pop())
    assert spawner.hear()["code"] == -signal.SIGKILL
    conn.close()


def test_orders_that_cannot_be_carried_out(spawner: Spawner) -> None:
    spawner.order(1, fds=3).close()
    assert spawner.hear() == {"id": 1, "error": "3 of 4 file descriptors came: are too many open?"}
    spawner.order(2, env={"LONG": "x" * 600}).close()
    told = spawner.hear()
    assert (told["id"], told["code"]) == (2, 1)
    assert "has room for" in (spawner.folder / "c2" / "out").read_text()
    conn = spawner.order(3)
    assert spawner.hear()["id"] == 3, "it goes on serving"
    conn.close()


def test_it_ends_with_its_socket_and_takes_its_containers_along() -> None:
    spawner = Spawner()
    conn = spawner.order(1)
    pid = spawner.hear()["pid"]
    watch = os.pidfd_open(pid)
    spawner.close()
    assert spawner.process.returncode == 0
    ended = select.poll()
    ended.register(watch, select.POLLIN)
    assert ended.poll(LIMIT_S * 1000)
    os.close(watch)
    conn.close()
