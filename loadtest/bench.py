"""Warm `echo` through the whole path against a bare handler that returns the same bytes: `python -m loadtest.bench`.

All sides are measured in turns within one run (bare, fallow, docker, bare, ...), by the same client in a process of its
own, so that whatever else the machine does meets each. The containers of `fallow` are processes, those of `docker` are
Docker's. The ratio is of requests a second: 1 would be a platform that costs nothing. What is added at the median is
the difference of the medians. Where there is Docker, what containers cost to start, to pause and to thaw follows.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fallow.report.summary import quantile
from loadtest.cluster import START_TIMEOUT_S, Api, BenchError, cluster, process
from loadtest.docker_bench import measure_containers, missing
from loadtest.hammer import HammerOrder, HammerResult
from loadtest.process_bench import measure_process, process_table

ACTION = "bench_echo"
ECHO = Path(__file__).resolve().parents[1] / "functions" / "actions" / "echo.py"
MEMORY_MB = 128  # the least an action may ask for: as many containers as connections must fit
BODY = '{"text":"fallow"}'
WARM_UP_S = 2.0
BARE = "bare"
_COPIED_HEADERS = ("Access-Control-", "Content-Type", "X-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where one side is reached."""

    host: str
    port: int
    path: str
    authorization: str


@dataclass(slots=True)
class Rounds:
    """What was measured of one side at one number of connections."""

    rates_per_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Rate: the median round. Quantiles: nearest rank over the calls of all rounds."""
        p50, p99 = quantile(self.latencies_ms, 0.5), quantile(self.latencies_ms, 0.99)
        assert p50 is not None
        assert p99 is not None
        return {
            "requests_per_s": round(statistics.median(self.rates_per_s), 1),
            "p50_ms": round(p50, 3),
            "p99_ms": round(p99, 3),
            "requests": len(self.latencies_ms),
        }


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like a Ctrl-C: what was started is stopped
    try:
        with contextlib.ExitStack() as stack:
            fallow = stack.enter_context(_cluster("process"))
            servers = {BARE: stack.enter_context(_bare(fallow)), "fallow": fallow}
            if docker := _has_docker(options):
                servers["docker"] = stack.enter_context(_cluster("docker"))
            levels = measure(servers, options)
        processes = measure_process()
        containers = measure_containers(options.starts) if docker else None
    except BenchError as e:
        sys.stderr.write(f"bench: {e}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    report = {"action": "echo", "body_bytes": len(BODY), "rounds": options.rounds, "levels": levels}
    if options.json:
        report |= {"processes": processes, "containers": None if containers is None else containers.figures()}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(
            "\n\n".join(
                [table(levels), process_table(processes), *([] if containers is None else [containers.table()])]
            )
            + "\n"
        )
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="length of one round (default 3)")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), default=3, metavar="N", help="of each side (3)")
    parser.add_argument("--connections", type=_levels, default=[1, 8, 32], help="comma-separated (default 1,8,32)")
    parser.add_argument(
        "--docker", choices=("auto", "yes", "no"), default="auto", help="rows of Docker (auto: if there)"
    )
    parser.add_argument(
        "--starts", type=int, choices=range(1, 1001), default=10, metavar="N", help="of containers (10)"
    )
    return parser.parse_args(argv)


def _has_docker(options: argparse.Namespace) -> bool:
    """Raises BenchError where it was asked for and is not to be had."""
    why = "" if options.docker == "no" else missing()
    if why and options.docker == "yes":
        raise BenchError(why)
    if why:
        sys.stderr.write(f"no rows of Docker: {why}\n")
    return options.docker != "no" and not why


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value


def _levels(text: str) -> list[int]:
    levels = [int(part) for part in text.split(",")]
    if not all(0 < level <= 1000 for level in levels):
        raise ValueError(text)
    return levels


# ---- the two sides


@contextlib.contextmanager
def _cluster(runtime: str) -> Iterator[Server]:
    """A cluster of one regular VM with the action deployed."""
    with cluster(runtime) as api:
        path = f"/api/v1/namespaces/_/actions/{ACTION}"
        document = {
            "exec": {"kind": "python:default", "code": ECHO.read_text()},
            "limits": {"memory": MEMORY_MB, "logs": 0},
        }
        api.call("PUT", f"{path}?overwrite=true", document)
        yield Server(**asdict(api), path=f"{path}?blocking=true")


@contextlib.contextmanager
def _bare(fallow: Server) -> Iterator[Server]:
    """Answers every call with what the cluster answered to one warm call, headers of its own included."""
    api = Api(host=fallow.host, port=fallow.port, authorization=fallow.authorization)
    api.request("POST", fallow.path, BODY)
    body, headers = api.request("POST", fallow.path, BODY)
    kept = {name: value for name, value in headers.items() if name.startswith(_COPIED_HEADERS)}
    with process("-m", "loadtest.bare") as handler:
        assert handler.stdin is not None
        assert handler.stdout is not None
        handler.stdin.write(json.dumps({"body": body.decode(), "headers": kept}).encode() + b"\n")
        handler.stdin.flush()
        port = handler.stdout.readline()
        if not port:
            raise BenchError("the bare handler did not start; what it said stands above")
        yield Server(host="127.0.0.1", port=int(port), path=fallow.path, authorization=fallow.authorization)


# ---- measuring


def measure(
    servers: dict[str, Server], options: argparse.Namespace, *, warm_up_s: float = WARM_UP_S
) -> list[dict[str, Any]]:
    """One entry for each number of connections, the first side being the floor. Raises BenchError where a side answers
    anything but 200."""
    levels = []
    for connections in options.connections:
        rounds = {side: Rounds() for side in servers}
        for side in servers:
            _round(servers[side], connections, warm_up_s)
        for _ in range(options.rounds):
            for side in servers:
                result, latencies_ms = _round(servers[side], connections, options.seconds)
                rounds[side].rates_per_s.append(result.requests / result.seconds)
                rounds[side].latencies_ms.extend(latencies_ms)
        figures = {side: rounds[side].figures() for side in servers}
        floor = figures[BARE]
        compared = {side: {**f, **_compared(floor, f)} if side != BARE else f for side, f in figures.items()}
        levels.append({"connections": connections, **compared})
        if not options.json:
            sys.stderr.write(f"{connections} connections measured\n")
    return levels


def _compared(bare: dict[str, float], side: dict[str, float]) -> dict[str, float]:
    return {
        "ratio": round(side["requests_per_s"] / bare["requests_per_s"], 3),
        "added_p50_ms": round(side["p50_ms"] - bare["p50_ms"], 3),
    }


def _round(server: Server, connections: int, seconds: float) -> tuple[HammerResult, array.array[float]]:
    order = HammerOrder(**asdict(server), body=BODY, connections=connections, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.hammer"],
        input=json.dumps(asdict(order)).encode() + b"\n",
        stdout=subprocess.PIPE,
        timeout=seconds + START_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"the client ended with status {done.returncode}")
    head, _, packed = done.stdout.partition(b"\n")
    result = HammerResult(**json.loads(head))
    if result.errors or not result.requests:
        raise BenchError(f"{result.errors} of {result.errors + result.requests} calls failed: {result.first_error}")
    latencies_ms = array.array("d")
    latencies_ms.frombytes(packed)
    return result, latencies_ms


def table(levels: Sequence[dict[str, Any]]) -> str:
    """For a terminal."""
    columns = ("requests/s", "p50 ms", "p99 ms", "ratio", "added p50 ms")
    lines = [
        "warm echo, whole path (fallow; docker: in its containers) against a bare aiohttp handler with the same bytes",
        f"{'connections':>11}  {'':<7}" + "".join(f"{column:>13}" for column in columns),
    ]
    for level in levels:
        for side, f in level.items():
            if side == "connections":
                continue
            cells = [f"{f['requests_per_s']:.0f}", f"{f['p50_ms']:.3f}", f"{f['p99_ms']:.3f}"]
            if side != BARE:
                cells += [f"{f['ratio']:.3f}", f"{f['added_p50_ms']:.3f}"]
            lines.append(f"{level['connections']:>11}  {side:<7}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
