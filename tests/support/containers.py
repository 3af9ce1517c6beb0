"""A container's server as a process, spoken to over its socket as the invoker does."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from invoker.backends.runtimes import usable_node

SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
LIMIT_S = 20.0
# As the invoker finds it; a machine without one fails what needs it.
NODE = (usable_node() or ("node", 0, 0))[0]


class Container:
    """`command` and `--socket PATH` in a folder of its own; with a `port`, `--port N`."""

    def __init__(
        self, *command: str, stdin: int = subprocess.DEVNULL, env: dict[str, str] | None = None, port: int | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
        self.path = self.folder / "s"
        self.port = port
        self.logs = {name: (self.folder / name).open("w") for name in ("out", "err")}
        self.process = subprocess.Popen(
            [*command, *(["--socket", str(self.path)] if port is None else ["--port", str(port)])],
            stdin=stdin,
            stdout=self.logs["out"],
            stderr=self.logs["err"],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})},
        )
        self.socket = self.connect()

    def connect(self) -> socket.socket:
        """Refused connections are tried again, as the invoker does, until the server listens or is dead."""
        while True:
            client = socket.socket(socket.AF_UNIX if self.port is None else socket.AF_INET)
            client.settimeout(LIMIT_S)
            try:
                client.connect(str(self.path) if self.port is None else ("127.0.0.1", self.port))
            except (FileNotFoundError, ConnectionRefusedError):
                client.close()
                assert self.process.poll() is None, self.log("err")
                os.sched_yield()
            else:
                return client

    def raw(self, data: bytes) -> tuple[int, Any]:
        self.socket.sendall(data)
        return self.answer()

    def answer(self) -> tuple[int, Any]:
        """Raises ConnectionError where the server goes away instead."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        while len(body) < length:
            body += self.socket.recv(1 << 20)
        assert len(body) == length
        return int(head.split()[1]), json.loads(body)

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return self.raw(f"POST {path} HTTP/1.1\r\nHost: c\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    def init(self, code: str, **value: Any) -> tuple[int, Any]:
        return self.post("/init", json.dumps({"value": {"name": "a", "main": "main", "code": code, **value}}).encode())

    def run(self, value: Any, **top: Any) -> tuple[int, Any]:
        return self.post("/run", json.dumps({"value": value, **top}).encode())

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait(LIMIT_S)
        if self.process.stdin:
            self.process.stdin.close()
        for log in self.logs.values():
            log.close()
        shutil.rmtree(self.folder)


def packed(files: dict[str, str], *, links: dict[str, str] | None = None) -> str:
    """A base64 zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return base64.b64encode(buffer.getvalue()).decode()
