"""A local cluster of its own for a measurement: started, spoken to over HTTP, and stopped again."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from fallow.infra.tasks import PARENT_DEATH_ENV

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class BenchError(Exception):
    """The measurement cannot be made; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Where a cluster answers, and the header that opens it."""

    host: str
    port: int
    authorization: str

    def request(self, method: str, path: str, body: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a 200. Raises BenchError on anything else."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            data=body.encode() if method != "GET" else None,
            method=method,
            headers={"Authorization": self.authorization, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:
                if answer.status != 200:
                    raise BenchError(f"{method} {path} was answered {answer.status}")
                return answer.read(), dict(answer.headers.items())
        except urllib.error.HTTPError as e:
            said = e.read(1000).decode("utf-8", "replace")
            raise BenchError(f"{method} {path}: {e}: {said}") from None
        except urllib.error.URLError as e:
            raise BenchError(f"{method} {path}: {e}") from None

    def call(self, method: str, path: str, document: object = None) -> Any:
        """The JSON of a 200. Raises BenchError on anything else."""
        body, _ = self.request(method, path, json.dumps(document))
        return json.loads(body)


@contextlib.contextmanager
def process(
    *args: str, stderr: IO[bytes] | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """This interpreter with `args` and additional variables `env`, ended by SIGTERM."""
    child = subprocess.Popen(
        [sys.executable, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **(env or {}), PARENT_DEATH_ENV: "1"},
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


@contextlib.contextmanager
def cluster(runtime: str = "process", settings: Mapping[str, str] | None = None) -> Iterator[Api]:
    """A cluster of one regular VM with this machine's cores. `runtime` is what its containers are, `settings` are
    FALLOW_* variables of its processes."""
    with tempfile.TemporaryDirectory(prefix="fallow-bench-", dir="/tmp") as state:
        args = ("up", "--port", "0", "--json", "--vms", "0", "--state-dir", state, "--log-level", "warning")
        with process("-m", "fallow_cli.main", *args, "--runtime", runtime, env=settings) as up:
            assert up.stdout is not None
            line = up.stdout.readline()
            if not line:
                raise BenchError("the cluster did not start; what it said stands above")
            ready = json.loads(line)
            token = base64.b64encode(ready["key"].encode()).decode()
            url = urlsplit(ready["url"])
            assert url.hostname is not None
            assert url.port is not None
            yield Api(host=url.hostname, port=url.port, authorization=f"Basic {token}")
