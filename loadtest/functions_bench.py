"""What the benchmark functions cost in real containers: `python -m loadtest.functions_bench`.

Every function runs on a cluster of its own making (one VM with this machine's cores), with its memory limit, with its
default arguments and with those of the demo. CPU and run time are the platform's own measurement, read from the
records; cold and warm are what the client of a blocking call waited.

Memory is asked of the kernel in the container: VmHWM, the most that was ever resident of the process, after one call in
a new container that runs the same source with a few lines added. It counts the pages a container shares with the
process it was forked from, as the platform's own limit does; what those are alone is measured with an empty function.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fallow.traces.benchmarks.profiles import BENCHMARKS, KIND, PROFILE_FILE, Benchmark
from loadtest.cluster import Api, BenchError, cluster

FUNCTIONS = Path(__file__).resolve().parents[1] / "functions"
README = FUNCTIONS / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLD_CALLS = 3
WARM_CALLS = 9
TIMEOUT_MS = 60_000
WIDTH = 120  # of the text that is written
EMPTY = "def main(args):\n    return {}\n"
PEAK = """

def peak(args):
    result = main(args)
    if "error" in result:
        return result
    with open("/proc/self/status") as status:
        return {"kb": next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One function with one set of arguments. Milliseconds are medians."""

    name: str
    arguments: Mapping[str, Any]  # {} = its defaults
    memory_mb: int  # limit
    cpu_ms: float  # of a warm call
    run_ms: float  # of a warm call
    cold_cpu_ms: float  # init and first run
    init_ms: float
    cold_ms: float  # container start, init and first run, as the client waits
    warm_ms: float  # as the client waits
    peak_mb: float  # resident


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    rows: tuple[Row, ...]
    empty_mb: float  # resident of a container whose function does nothing
    conditions: str


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like a Ctrl-C: what was started is stopped
    chosen = [b for b in BENCHMARKS if not options.only or b.name in options.only]
    try:
        with cluster() as api:
            table = measure(
                api, chosen, cold=options.cold, warm=options.warm, said=lambda s: sys.stderr.write(s + "\n")
            )
        if options.write:
            PROFILE_FILE.write_text(profile_text(table), encoding="utf-8")
            README.write_text(rewritten(README.read_text(encoding="utf-8"), markdown(table)), encoding="utf-8")
    except BenchError as e:
        sys.stderr.write(f"functions_bench: {e}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps(asdict(table), indent=2) + "\n" if options.json else markdown(table))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.functions_bench", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help=f"rewrite functions/README.md and {PROFILE_FILE.name}")
    names = [b.name for b in BENCHMARKS]
    parser.add_argument("--only", nargs="+", action="extend", default=[], choices=names, help="these functions")
    parser.add_argument("--cold", type=_count, default=COLD_CALLS, help=f"calls in new containers ({COLD_CALLS})")
    parser.add_argument("--warm", type=_count, default=WARM_CALLS, help=f"calls after them ({WARM_CALLS})")
    options = parser.parse_args(argv)
    if options.write and options.only:
        parser.error("--write needs all functions: leave --only away")
    return options


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1_000:
        raise ValueError(text)
    return value


# ---- measuring


def measure(api: Api, benchmarks: Sequence[Benchmark], *, cold: int, warm: int, said: Callable[[str], object]) -> Table:
    """Two rows a function: its defaults, then the demo's arguments. Raises BenchError where a call fails or no VM
    offers the kind."""
    offered = [runtime["kind"] for runtime in api.call("GET", "/")["runtimes"]["python"]]
    if KIND not in offered:
        raise BenchError(f"no VM offers {KIND}: install the libraries with `make setup` (the extra [functions])")
    rows = []
    for benchmark in benchmarks:
        rows += [_row(api, benchmark, arguments, cold, warm) for arguments in ({}, benchmark.arguments)]
        said(f"{benchmark.name} measured")
    return Table(rows=tuple(rows), empty_mb=_peak_mb(api, EMPTY, 256, {}), conditions=conditions())


def conditions() -> str:
    """When and on what."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores, version = len(os.sched_getaffinity(0)), platform.python_version()
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores} x {model}, Python {version}"


def _row(api: Api, benchmark: Benchmark, arguments: Mapping[str, Any], cold: int, warm: int) -> Row:
    source = (FUNCTIONS / "benchmarks" / f"{benchmark.name}.py").read_text(encoding="utf-8")
    colds: list[_Call] = []
    for _ in range(cold):
        _deploy(api, benchmark.name, source, benchmark.memory_mb)  # a new revision, so a new container
        colds.append(_call(api, benchmark.name, arguments))
    warms = [_call(api, benchmark.name, arguments) for _ in range(warm)]
    if any(call.init_ms is None for call in colds) or any(call.init_ms is not None for call in warms):
        raise BenchError(f"{benchmark.name}: cold and warm calls did not come as ordered: is the VM's memory full?")
    return Row(
        name=benchmark.name,
        arguments=arguments,
        memory_mb=benchmark.memory_mb,
        cpu_ms=_median([call.cpu_ms for call in warms]),
        run_ms=_median([call.run_ms for call in warms]),
        cold_cpu_ms=_median([call.cpu_ms for call in colds]),
        init_ms=_median([call.init_ms or 0.0 for call in colds]),
        cold_ms=_median([call.waited_ms for call in colds]),
        warm_ms=_median([call.waited_ms for call in warms]),
        peak_mb=_peak_mb(api, source, benchmark.memory_mb, arguments),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    waited_ms: float
    run_ms: float
    cpu_ms: float
    init_ms: float | None


def _call(api: Api, action: str, arguments: Mapping[str, Any]) -> _Call:
    began_s = time.perf_counter()
    record = api.call("POST", f"/api/v1/namespaces/_/actions/{action}?blocking=true", arguments)
    waited_ms = (time.perf_counter() - began_s) * 1e3
    notes = {note["key"]: note["value"] for note in record["annotations"]}
    if "cpuTime" not in notes:
        raise BenchError(f"{action}: the record {record['activationId']} has no CPU time")
    return _Call(waited_ms=waited_ms, run_ms=notes["runTime"], cpu_ms=notes["cpuTime"], init_ms=notes.get("initTime"))


def _deploy(api: Api, name: str, source: str, memory_mb: int, main: str = "main") -> None:
    document = {
        "exec": {"kind": KIND, "code": source, "main": main},
        "limits": {"memory": memory_mb, "timeout": TIMEOUT_MS, "logs": 0},
    }
    api.call("PUT", f"/api/v1/namespaces/_/actions/{name}?overwrite=true", document)


def _peak_mb(api: Api, source: str, memory_mb: int, arguments: Mapping[str, Any]) -> float:
    _deploy(api, "peak", source + PEAK, memory_mb, main="peak")
    record = api.call("POST", "/api/v1/namespaces/_/actions/peak?blocking=true", arguments)
    return round(int(record["response"]["result"]["kb"]) / 1024, 1)


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


# ---- what is written


def markdown(table: Table) -> str:
    """A table of the defaults and one of the demo's arguments, with what was measured and how."""
    defaults = [row for row in table.rows if not row.arguments]
    demo = [row for row in table.rows if row.arguments]
    text = (
        f"Measured by `python -m loadtest.functions_bench --write` ({table.conditions}). CPU and run are of a warm "
        "call as its record has them; cold is a blocking call into a new container (start, init, first run), warm "
        "the next ones, both as the client waits; all are medians. Peak memory is the kernel's VmHWM of the container "
        f"after one call, beside the limit; with an empty function it is {table.empty_mb:.0f} MB, most of them shared "
        "with the process the container was forked from."
    )
    return (
        f"{textwrap.fill(text, WIDTH, break_on_hyphens=False)}\n\n"
        f"Default arguments:\n\n{_lines(defaults)}\nArguments of the demo:\n\n{_lines(demo)}"
    )


def _lines(rows: Sequence[Row]) -> str:
    heads = ["function", "arguments", "CPU", "run", "peak memory (limit)", "cold", "warm"]
    if not any(row.arguments for row in rows):
        heads.remove("arguments")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [
            row.name,
            *([f"`{json.dumps(row.arguments)}`"] if row.arguments else []),
            f"{row.cpu_ms / 1e3:.3f} s",
            f"{row.run_ms / 1e3:.3f} s",
            f"{row.peak_mb:.0f} MB ({row.memory_mb})",
            f"{row.cold_ms:.0f} ms",
            f"{row.warm_ms:.0f} ms",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str, measured: str) -> str:
    """`text` with what stands between the markers replaced. Raises BenchError where they are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise BenchError(f"{README.name} needs the lines {BEGIN} and {END}, once each")
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{measured}{END}", text, flags=re.DOTALL)


def profile_text(table: Table) -> str:
    """benchmarks.json: what a replay's plan counts the demo's arguments with."""
    functions = {
        row.name: {
            "arguments": row.arguments,
            "cpu_ms": row.cpu_ms,
            "cold_cpu_ms": row.cold_cpu_ms,
            "peak_mb": row.peak_mb,
        }
        for row in table.rows
        if row.arguments
    }
    return json.dumps({"conditions": table.conditions, "functions": functions}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
