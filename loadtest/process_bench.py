"""What a container of the process runtime costs to start: the wait of a cold call beside that of a warm one, its CPU.

One call at a time on an idle VM. The CPU is that of the whole VM (invoker, spawner, containers) over so many cold
calls, less that of as many warm ones. The simulator's times of this runtime rest on these figures.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from loadtest.cluster import Api, cluster

STARTS = 40
MEMORY_MB = 128
ECHO = Path(__file__).resolve().parents[1] / "functions" / "actions" / "echo.py"
SETTLE_S = 1.0  # what is tidied up after a call counts for it

ROWS = {
    "cold_ms": "cold call: container, init, run",
    "warm_ms": "warm call",
    "init_ms": "of the cold call: init",
    "start_ms": "create + start: cold less warm less init",
    "start_cpu_ms": "CPU of a start, init and removal, the platform's included",
}


def measure_process(starts: int = STARTS) -> dict[str, float]:
    """Milliseconds by row, medians; the CPU is a mean. Raises BenchError where no cluster is to be had."""
    with cluster("process") as api:
        names = [f"bench_cold_{number}" for number in range(starts)]
        for name in names:
            document = {
                "exec": {"kind": "python:default", "code": ECHO.read_text()},
                "limits": {"memory": MEMORY_MB, "logs": 0},
            }
            api.call("PUT", f"/api/v1/namespaces/_/actions/{name}?overwrite=true", document)
        _call(api, names[0])  # the first of all warms up connections and the spawner
        before_s = _cpu_s()
        cold = [_call(api, name) for name in names[1:]]
        time.sleep(SETTLE_S)
        between_s = _cpu_s()
        warm = [_call(api, name) for name in names[1:]]
        time.sleep(SETTLE_S)
        after_s = _cpu_s()
    assert all(init_ms is not None for _, init_ms in cold), "a cold call has its init"
    cold_ms, warm_ms = (statistics.median([took for took, _ in calls]) for calls in (cold, warm))
    init_ms = statistics.median([init or 0.0 for _, init in cold])
    cpu_s = (between_s - before_s) - (after_s - between_s)
    return {
        "cold_ms": round(cold_ms, 2),
        "warm_ms": round(warm_ms, 2),
        "init_ms": round(init_ms, 2),
        "start_ms": round(cold_ms - warm_ms - init_ms, 2),
        "start_cpu_ms": round(1e3 * cpu_s / len(cold), 2),
    }


def process_table(figures: dict[str, float]) -> str:
    """For a terminal."""
    lines = [f"{'containers that are processes':<60}{'ms':>9}"]
    lines += [f"{text:<60}{figures[row]:>9.2f}" for row, text in ROWS.items()]
    return "\n".join(lines)


def _call(api: Api, name: str) -> tuple[float, float | None]:
    """(the client's wait, init) of a blocking call, in ms; init None = warm."""
    began_s = time.monotonic()
    record = api.call("POST", f"/api/v1/namespaces/_/actions/{name}?blocking=true", {"text": "fallow"})
    took_ms = (time.monotonic() - began_s) * 1e3
    said = {one["key"]: one["value"] for one in record["annotations"]}
    return took_ms, said.get("initTime")


def _cpu_s() -> float:
    """CPU of all descendants of this process, ended ones that were waited for included."""
    tree: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            tree.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:15]))
    waiting, ticks = list(tree.get(os.getpid(), [])), 0
    while waiting:
        pid = waiting.pop()
        ticks += used.get(pid, 0)
        waiting += tree.get(pid, [])
    return ticks / os.sysconf("SC_CLK_TCK")
