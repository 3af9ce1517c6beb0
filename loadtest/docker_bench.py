"""What a Docker container costs to start, to take ready-made, to pause and to thaw, beside the bare engine's calls.

The floor of a start is what the engine alone takes to create and start the same image until it gives an HTTP answer.
On the platform's side a client's whole wait for a blocking call is measured: the start of the container, init, run, and
the way through controller and invoker.
"""

from __future__ import annotations

import asyncio
import http.client
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fallow.infra.engine import CLUSTER_LABEL, Engine, EngineError, NotThereError
from loadtest.cluster import Api, BenchError, cluster

IMAGE = "fallow/action-python"
MEMORY_MB = 128
PORT = 8080  # of the server in a container (action protocol)
PAUSE_GRACE_S = 0.2
REST_S = 1.0  # long enough for a pause after its grace, and for a stem cell to be replaced
POLL_S = 0.002
READY_TIMEOUT_S = 30.0
ECHO = Path(__file__).resolve().parents[1] / "functions" / "actions" / "echo.py"

ROWS = {
    "bare_start_ms": "bare engine: create, start, first answer",
    "cold_ms": "cold call: container, init, run",
    "stem_ms": "call in a stem cell: init, run",
    "warm_ms": "warm call",
    "thawed_ms": "call in a paused container",
    "bare_pause_ms": "bare engine: pause",
    "bare_unpause_ms": "bare engine: unpause",
}


@dataclass(frozen=True, slots=True)
class Containers:
    """Milliseconds of every measurement, by row."""

    samples: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in ROWS})

    def figures(self) -> dict[str, dict[str, float]]:
        return {
            row: {
                "median": round(statistics.median(values), 2),
                "min": round(min(values), 2),
                "max": round(max(values), 2),
                "count": len(values),
            }
            for row, values in self.samples.items()
        }

    def table(self) -> str:
        """For a terminal."""
        lines = [f"{'containers in Docker':<44}{'median ms':>11}{'least':>9}{'most':>9}"]
        for row, f in self.figures().items():
            lines.append(f"{ROWS[row]:<44}{f['median']:>11.2f}{f['min']:>9.2f}{f['max']:>9.2f}")
        return "\n".join(lines)


def missing() -> str:
    """Why Docker cannot be measured here, "" if it can."""

    async def look() -> str:
        engine = Engine(threads=1)
        try:
            await engine.call(lambda client: client.inspect_image(IMAGE))
        except NotThereError:
            return f"there is no image {IMAGE}: make it with `make images`"
        except EngineError as e:
            return str(e)
        finally:
            engine.close()
        return ""

    return asyncio.run(look())


def measure_containers(count: int) -> Containers:
    """`count` of each row. Raises BenchError."""
    found = Containers()
    with cluster("docker", {"FALLOW_PAUSE_GRACE_S": "600"}) as api, _Bare() as bare:
        for number in range(count):
            found.samples["bare_start_ms"].append(bare.start_ms())
            _deploy(api, f"cold{number}")
            found.samples["cold_ms"].append(_call(api, f"cold{number}", cold=True))
            found.samples["warm_ms"].append(_call(api, f"cold{number}", cold=False))
            pause_ms, unpause_ms = bare.pause_ms()
            found.samples["bare_pause_ms"].append(pause_ms)
            found.samples["bare_unpause_ms"].append(unpause_ms)
    with cluster("docker", {"FALLOW_PAUSE_GRACE_S": str(PAUSE_GRACE_S)}) as api:
        _deploy(api, "paused")
        _call(api, "paused", cold=True)
        for _ in range(count):
            time.sleep(REST_S)
            found.samples["thawed_ms"].append(_call(api, "paused", cold=False))
    with cluster("docker", {"FALLOW_PREWARM": f"python:3=2@{MEMORY_MB}"}) as api:
        for number in range(count):
            time.sleep(REST_S * 2)
            _deploy(api, f"stem{number}")
            found.samples["stem_ms"].append(_call(api, f"stem{number}", cold=True, prewarmed=True))
    return found


def _deploy(api: Api, name: str) -> None:
    document = {
        "exec": {"kind": "python:3", "code": ECHO.read_text(encoding="utf-8")},
        "limits": {"memory": MEMORY_MB, "logs": 0},
    }
    api.call("PUT", f"/api/v1/namespaces/_/actions/{name}?overwrite=true", document)


def _call(api: Api, name: str, *, cold: bool, prewarmed: bool = False) -> float:
    """Milliseconds a client waited. Raises BenchError where the container was not what the row says."""
    began_s = time.perf_counter()
    record = api.call("POST", f"/api/v1/namespaces/_/actions/{name}?blocking=true", {"text": "fallow"})
    waited_ms = (time.perf_counter() - began_s) * 1e3
    notes = {note["key"]: note["value"] for note in record["annotations"]}
    if ("initTime" in notes) is not cold or bool(notes.get("prewarmed")) is not prewarmed:
        raise BenchError(f"{name}: the call came to another container than was to be measured: {notes}")
    return waited_ms


class _Bare:
    """The engine alone."""

    def __init__(self) -> None:
        self._label = f"bench-{secrets.token_hex(4)}"

    def __enter__(self) -> _Bare:
        self._engine = Engine(threads=1)
        self._runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for container in self._runner.run(self._engine.containers({CLUSTER_LABEL: self._label})):
                self._runner.run(self._engine.remove(container.id))
        finally:
            self._engine.close()
            self._runner.close()

    def _do(self, work: Callable[[Any], Any]) -> Any:
        try:
            return self._runner.run(self._engine.call(work, timeout_s=READY_TIMEOUT_S))
        except EngineError as e:
            raise BenchError(f"the engine refused: {e}") from None

    def start_ms(self) -> float:
        with self._container() as began_s:
            return (time.perf_counter() - began_s) * 1e3

    def pause_ms(self) -> tuple[float, float]:
        """(pause, unpause)"""
        with self._container():
            marks = [time.perf_counter()]
            self._do(lambda client: client.pause(self._id))
            marks.append(time.perf_counter())
            self._do(lambda client: client.unpause(self._id))
            marks.append(time.perf_counter())
        return (marks[1] - marks[0]) * 1e3, (marks[2] - marks[1]) * 1e3

    @contextmanager
    def _container(self) -> Iterator[float]:
        """A running container that answers; yields when its making began."""
        began_s = time.perf_counter()
        self._id = self._do(self._create)
        try:
            self._do(lambda client: client.start(self._id))
            address = self._do(lambda client: client.inspect_container(self._id)["NetworkSettings"]["IPAddress"])
            _first_answer(address)
            yield began_s
        finally:
            self._do(lambda client: client.remove_container(self._id, force=True, v=True))

    def _create(self, client: Any) -> str:
        limit = MEMORY_MB << 20
        host = client.create_host_config(mem_limit=limit, memswap_limit=limit)
        container: str = client.create_container(IMAGE, host_config=host, labels={CLUSTER_LABEL: self._label})["Id"]
        return container


def _first_answer(address: str) -> None:
    """Waits for any HTTP answer. Raises BenchError."""
    until_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until_s:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("POST", "/", body=b"{}")
            connection.getresponse().read()
        except OSError:
            time.sleep(POLL_S)
        else:
            return
        finally:
            connection.close()
    raise BenchError(f"the bare container did not answer within {READY_TIMEOUT_S:g} s")
