"""Joins what several controllers remember of one activation, and its final record, into one document.

Each controller has the steps it took itself, in seconds since the call arrived there, and the wall time of that
arrival; so the parts are put in order by wall clock, as good as the clocks of the controllers' machines agree. Times in
the document count from the moment the API accepted the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ENDS = {"finished": "answered", "concluded": "given up", "refused": "refused"}
FORGOTTEN = (
    "No controller that was asked remembers the steps (each keeps its latest calls, and loses them when it ends): "
    "what was considered, notices, shrinks and earlier attempts are not known. The record tells the rest."
)


def merge(parts: Sequence[Mapping[str, Any]], missing: Sequence[str] = (), *, asked: int = 1) -> dict[str, Any]:
    """One document of the parts (at least one) of so many controllers that were `asked`.

    `missing` says in sentences which of them did not tell.
    """
    remembered = sorted((p for p in parts if p["remembered"]), key=lambda p: p["arrived_unix_ms"])
    record = next((p["record"] for p in parts if p["record"]), None)
    first, teller = (remembered or parts)[0], _teller(remembered)
    accepted = min((p["accepted_unix_ms"] for p in parts if p["accepted_unix_ms"]), default=0)
    steps = _steps(remembered, accepted)
    end = next((step for step in reversed(steps) if step["what"] in _ENDS), None)
    waits, total_s = (teller["waits"], teller["total_s"]) if teller else _waits_of(record)
    costs = [cost for part in remembered for cost in part["costs"]] or _costs_of(record)
    return {
        "activationId": first["activationId"],
        "action": first["action"],
        "state": _state(end, record, remembered),
        "status": record["status"] if record else end["outcome"]["status"] if end and "outcome" in end else None,
        "blocking": _any(remembered, "blocking"),
        "durable": _any(remembered, "durable"),
        "attempts": _attempts(steps, record),
        "accepted_unix_ms": accepted,
        "controllers": [
            {
                "controller": p["controller"],
                "remembers": p["remembered"],
                "arrived_unix_ms": p["arrived_unix_ms"],
                "waits": p["waits"],
                "total_s": p["total_s"],
                "tells_sums": p is teller,
            }
            for p in (remembered or parts)
        ],
        "steps": steps,
        "waits": waits,
        "total_s": total_s,
        "total_is": "latency" if end or record else "so far",
        "clocks_disagreed_s": max((p["clocks_disagreed_s"] for p in parts), default=0.0),
        "costs": costs,
        **_cost_sums(costs),
        "record": record,
        "unknown": [*missing, *_not_asked(parts, asked), *_unknown(parts, remembered, steps, record, end)],
    }


def _teller(remembered: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Whose sums are told: the controller that ended the call, else the one that has it, else the last that had it."""
    newest_first = list(reversed(remembered))
    ended_it = [part for part in newest_first if _ended_it(part)]
    has_it = [part for part in newest_first if not part["ended"]]
    return next(iter([*ended_it, *has_it, *newest_first]), None)


def _ended_it(part: Mapping[str, Any]) -> bool:
    return any(step["what"] in _ENDS for step in part["steps"])


def _state(
    end: Mapping[str, Any] | None, record: Mapping[str, Any] | None, remembered: Sequence[Mapping[str, Any]]
) -> str:
    if end is not None:
        return _ENDS[end["what"]]
    if record is not None:
        return "ended"
    return "with a controller that was not asked" if all(part["ended"] for part in remembered) else "not over"


def _attempts(steps: Sequence[Mapping[str, Any]], record: Mapping[str, Any] | None) -> int:
    """The number of the last attempt that was placed: one that still waits for its start is none yet."""
    placed = [step["attempt"] for step in steps if step["what"] == "placed"]
    recorded = [record["attempt"]] if record else []
    attempts: int = max([*placed, *recorded, 0])
    return attempts


def _any(parts: Sequence[Mapping[str, Any]], key: str) -> bool | None:
    """Does any part say so? A controller that read the call from the durable queue does not know that a client waited.
    None = nobody remembers."""
    return any(part[key] for part in parts) if parts else None


def _steps(remembered: Sequence[Mapping[str, Any]], accepted_unix_ms: int) -> list[dict[str, Any]]:
    steps = []
    for part in remembered:
        arrival = {
            "at_unix_ms": float(part["arrived_unix_ms"]),
            "what": "arrived",
            "attempt": 0,
            "vm": None,
            "note": "",
            "considered": [],
            "passed_over": [],
            "blocking": part["blocking"],
        }
        for step in [arrival, *part["steps"]]:
            after_s = max(0.0, (step["at_unix_ms"] - accepted_unix_ms) / 1000)
            steps.append({**step, "after_s": round(after_s, 6), "controller": part["controller"]})
    return sorted(steps, key=lambda step: step["at_unix_ms"])


def _waits_of(record: Mapping[str, Any] | None) -> tuple[dict[str, float] | None, float | None]:
    """As far as the record alone knows: it cannot tell the waits before the last attempt's VM apart."""
    if record is None or not record["accepted_unix_ms"]:
        return None, None
    if record.get("parts") is not None:
        return _waits_of_composition(record)
    vm = record["vm_waits"] or {}
    known = {
        "vm_queue_cpu_s": vm.get("cpu_s", 0.0),
        "vm_queue_memory_s": vm.get("memory_s", 0.0),
        "vm_queue_starts_s": vm.get("starts_s", 0.0),
        "vm_queue_shrink_s": vm.get("shrink_s", 0.0),
        "container_start_s": vm.get("start_s", 0.0),
    }
    wait_s = (record["wait_ms"] or 0) / 1000
    known["not_told_apart_s"] = max(0.0, wait_s - sum(known.values()))
    known["init_s"] = (record["init_ms"] or 0) / 1000
    known["run_s"] = (record["run_ms"] or 0) / 1000
    total_s = (record["end_unix_ms"] - record["accepted_unix_ms"]) / 1000
    known["way_s"] = max(0.0, total_s - sum(known.values()))
    return {key: round(value, 6) for key, value in known.items()}, round(sum(known.values()), 6)


def _waits_of_composition(record: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    total_s = (record["end_unix_ms"] - record["accepted_unix_ms"]) / 1000
    before_s, parts_s = (record["wait_ms"] or 0) / 1000, (record.get("parts_ms") or 0) / 1000
    between_s = max(0.0, total_s - before_s - parts_s)
    return {"before_s": before_s, "parts_s": parts_s, "between_s": round(between_s, 6)}, total_s


def _costs_of(record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Of the attempt that the record is of: others are not in it."""
    if record is None or not record["vm"] or record["price"] is None:
        return []
    cpu_s = None if record["cpu_ms"] is None else record["cpu_ms"] / 1000
    return [
        {
            "attempt": record["attempt"],
            "vm": record["vm"],
            "kind": record["kind"],
            "price": record["price"],
            "speed": record["speed"],
            "cpu_core_s": cpu_s,
            "cost_regular_core_s": None if cpu_s is None else cpu_s * record["price"],
            "on_regular_core_s": None if cpu_s is None else cpu_s * record["speed"],
            "wasted": False,
            "note": "" if cpu_s is not None else "not measured",
        }
    ]


def _cost_sums(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`on_regular_core_s` counts what was useful only: on a regular VM nothing would have been cut off."""
    known = [cost for cost in costs if cost["cpu_core_s"] is not None]
    useful = [cost for cost in known if not cost["wasted"]]
    return {
        "cost_regular_core_s": sum(cost["cost_regular_core_s"] for cost in known) if known else None,
        "on_regular_core_s": sum(cost["on_regular_core_s"] for cost in useful) if useful else None,
        "cost_complete": bool(costs) and len(known) == len(costs) and not any(c["wasted"] for c in costs),
    }


def _not_asked(parts: Sequence[Mapping[str, Any]], asked: int) -> list[str]:
    live = max(part["controllers_live"] for part in parts)
    if live <= asked:
        return []
    return [f"{asked} of {live} controllers {'was' if asked == 1 else 'were'} asked: the others may remember more."]


def _unknown(
    parts: Sequence[Mapping[str, Any]],
    remembered: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any] | None,
    end: Mapping[str, Any] | None,
) -> list[str]:
    notes = []
    if not remembered:
        if record is None or record.get("parts") is None:
            notes.append(FORGOTTEN)
    else:
        told = {step["attempt"] for step in steps if step["what"] == "placed"}
        lost = [str(n) for n in range(1, _attempts(steps, record) + 1) if n not in told]
        if lost:
            notes.append(f"Who started attempt {' and '.join(lost)} was not asked, is gone, or has forgotten it.")
    left_out = sum(part["left_out"] for part in remembered)
    if left_out:
        notes.append(f"{left_out} steps from the middle were not kept; the sums count them, the costs do not.")
    notes += dict.fromkeys(f"The final record is not shown: {p['record_note']}" for p in parts if p["record_note"])
    if record is None and end is not None and end["what"] != "refused" and not any(p["record_note"] for p in parts):
        notes.append("The final record is not written yet.")
    return notes
