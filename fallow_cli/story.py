"""An activation's story in plain sentences: what happened when, where the time went, what it cost."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 100
SHOWN = 6  # considered VMs a placement names
_INDENT = 12
Doc = Mapping[str, Any]

_CAUSES = {
    "before_s": "before its controller took it up (in the durable queue, or with another controller)",
    "waiting_room_s": "in the controller's waiting room, for a VM that could take it",
    "store_s": "for the store's word that an attempt may start (the fence)",
    "way_s": "on the way between controller and VM, and not measured closer",
    "vm_queue_cpu_s": "in the VM's queue: its CPU was busy",
    "vm_queue_memory_s": "in the VM's queue: no memory for another container",
    "vm_queue_starts_s": "in the VM's queue: as many containers as may were starting",
    "vm_queue_shrink_s": "in the VM's queue because it shrank: with its cores of before it would have started",
    "container_start_s": "for its container to start (cold start)",
    "vm_other_s": "in the VM, not told apart (hand-over, fetching code)",
    "not_told_apart_s": "from acceptance to start, not told apart (queues, store, earlier attempts)",
    "init_s": "initialising the container with the action's code (cold start)",
    "run_s": "running",
    "parts_s": "in its parts",
    "between_s": "between its parts: placing them, waiting for VMs and containers, writing records",
    "cut_off_s": "in attempts that were cut off",
    "on_vm_so_far_s": "on its VM so far",
}


# What placements say in a word, explained where it first comes up.
_WORDS = {
    "score": "how loaded the VM is for the policy; lower is better",
    "worker set": "the VMs on which this function is kept warm, as few as carry its load",
}


def story_lines(doc: Doc) -> Iterator[str]:
    """The whole story, in lines of at most WIDTH columns (names may be longer)."""
    yield from _head(doc)
    if doc["steps"]:
        yield ""
        yield from _steps(doc)
    if doc["record"]:
        yield ""
        yield from _record(doc["record"])
        if not doc["steps"] and doc["record"]["vm_waits"]:
            yield from _vm_waits(doc["record"]["vm_waits"])
    if doc["waits"] is not None:
        yield ""
        yield from _waits(doc)
    if doc["costs"]:
        yield ""
        yield from _costs(doc)
    if doc["unknown"]:
        yield ""
        yield "Not known"
        for note in doc["unknown"]:
            yield from _wrap(note, 2)


def _head(doc: Doc) -> Iterator[str]:
    yield f"{doc['activationId']}  {doc['action']}"
    how = {True: "blocking", False: "asynchronous", None: ""}[doc["blocking"]]
    if doc["blocking"] and doc["durable"]:
        how = "blocking, then made durable"
    state = f"{doc['state']}: {doc['status']}" if doc["status"] else doc["state"]
    attempts = f"{doc['attempts']} attempt{'' if doc['attempts'] == 1 else 's'}"
    yield ", ".join(part for part in (how, attempts, state) if part)
    if doc["accepted_unix_ms"]:
        moment = datetime.datetime.fromtimestamp(doc["accepted_unix_ms"] / 1000, tz=datetime.UTC)
        line = f"accepted {moment:%Y-%m-%d %H:%M:%S}.{doc['accepted_unix_ms'] % 1000:03d} UTC"
        if doc["total_s"] is not None:
            line += f"; {'answered after' if doc['total_is'] == 'latency' else 'so far'} {doc['total_s']:.3f} s"
        yield line


def _steps(doc: Doc) -> Iterator[str]:
    several = sum(one["remembers"] for one in doc["controllers"]) > 1
    details = _Details()
    for step in doc["steps"]:
        teller = f"[{step['controller']}] " if several else ""
        yield from _wrap(f"{step['after_s']:8.3f} s  {teller}{_sentence(step)}", 0)
        yield from details.of(step)


class _Details:
    """What stands below a step. Remembers what was said: what holds for all attempts is explained once."""

    def __init__(self) -> None:
        self._long_why = ""
        self._words: set[str] = set()
        self._shrank = False  # the VM of the present attempt

    def of(self, step: Doc) -> Iterator[str]:
        match step["what"]:
            case "placed":
                self._shrank = False
                yield from self._length(step)
                yield from _kinds(step)
                yield from _looked_at(step)
                yield from self._explained(step["note"] + (" score" if step["considered"] else ""))
            case "waited":
                yield from _looked_at(step)
            case "cores":
                self._shrank = self._shrank or step["cores_after"] < step["cores_before"]
            case "cut off" if self._shrank:
                yield from _wrap("How much the shrink had slowed it is not measured: its VM told no more.", _INDENT)
            case "finished" if "outcome" in step:
                yield from _outcome(step["outcome"])
            case "returned" if step.get("vm_waits"):
                yield from _vm_waits(step["vm_waits"])

    def _length(self, step: Doc) -> Iterator[str]:
        if step["long_why"] != self._long_why:
            self._long_why = step["long_why"]
            length = "long (expected to outlast an eviction notice)" if step["long"] else "short"
            yield from _wrap(f"It counts as {length}: {self._long_why}.", _INDENT)

    def _explained(self, note: str) -> Iterator[str]:
        for word, text in _WORDS.items():
            if word in note and word not in self._words:
                self._words.add(word)
                yield from _wrap(f"({word}: {text})", _INDENT)


def _sentence(step: Doc) -> str:
    vm, note, attempt = step["vm"] or "its VM", step["note"], step["attempt"]
    match step["what"]:
        case "arrived" if step["blocking"]:
            return f"A client called and waits; controller {step['controller']} took the call."
        case "arrived":
            return f"Controller {step['controller']} took the call from the durable queue."
        case "placed":
            about = f"{step['kind']}, {step['vm_cores']:g} cores, price {step['price']:.3g}"
            return f"Attempt {attempt} was sent to {vm} ({about}): {note}."
        case "waited":
            return f"It went into the controller's waiting room: {note}."
        case "returned":
            return f"{vm} gave it back before it started: {note}. That counts as no attempt."
        case "notice":
            return f"{note}."
        case "cores":
            verb = "shrank" if step["cores_after"] < step["cores_before"] else "grew"
            return f"{vm} {verb} from {step['cores_before']:g} to {step['cores_after']:g} cores."
        case "cut off":
            return f"Attempt {attempt} was cut off: {note}."
        case "fence asked":
            return f"Asked the store to let attempt {attempt} start (fence: no earlier one may answer any more)."
        case "fence raised":
            return "The store agreed."
        case "made durable":
            return "The client's wait was over: the call was entered in the durable queue and went on."
        case "finished":
            return f"{vm} answered: {note}."
        case "late result discarded":
            return f"A late result came from {vm} and was discarded: {note}."
        case "concluded":
            return f"The controller gave it up and recorded an error: {note}"
        case "refused":
            return f"It was refused and leaves no record: {note}."
        case "forgotten":
            return f"This controller let go of it: {note}."
        case other:
            return f"{other}: {note}" if note else str(other)


def _kinds(step: Doc) -> Iterator[str]:
    """What the strategy's order of kinds meant; nothing where the first kind took the call and none is forbidden."""
    notes = [f"no usable {kind} VM" for kind in step["kinds_unusable"]]
    notes += [f"{kind} VMs are forbidden to it" for kind in step["kinds_forbidden"]]
    if notes:
        yield from _wrap(f"Kinds in order {', '.join(step['kinds_preferred'])}: {'; '.join(notes)}.", _INDENT)


def _looked_at(step: Doc) -> Iterator[str]:
    names = [one["vm"] for one in [*step["considered"], *step["passed_over"]]]
    width = max(map(len, names), default=0)
    for one in step["considered"][:SHOWN]:
        fit = "fits" if one["fits"] else "does not fit"
        chosen = "  <- chosen" if one["vm"] == step["vm"] else ""
        note = f": {one['note']}" if one["note"] else ""
        yield from _wrap(
            f"{one['vm']:{width}}  {one['kind']:7}  score {one['score']:.3f}  {fit}{note}{chosen}", _INDENT
        )
    more = len(step["considered"]) - SHOWN
    if more > 0:
        yield " " * _INDENT + f"and {more} more"
    for one in step["passed_over"][:SHOWN]:
        yield from _wrap(f"{one['vm']:{width}}  {one['kind']:7}  not looked at: {one['why']}", _INDENT)
    more = len(step["passed_over"]) - SHOWN
    if more > 0:
        yield " " * _INDENT + f"and {more} more that were not looked at"


def _outcome(outcome: Doc) -> Iterator[str]:
    parts = [f"It waited {outcome['wait_s']:.3f} s there"]
    if outcome["init_s"] is None and not outcome["run_s"]:  # a run takes some time, however little
        yield from _wrap(f"{parts[0]}, and no container could be started for it.", _INDENT)
        return
    if outcome["init_s"] is None:
        parts.append("found a warm container")
    else:
        where = "a container started ahead of time" if outcome["prewarmed"] else "a new container"
        parts.append(f"was initialised in {where} in {outcome['init_s']:.3f} s")
    parts.append(f"ran {outcome['run_s']:.3f} s")
    cpu = "CPU time not measured" if outcome["cpu_s"] is None else f"used {outcome['cpu_s']:.3f} core-seconds"
    yield from _wrap(", ".join([*parts, cpu]) + ".", _INDENT)
    if outcome["vm_waits"]:
        yield from _vm_waits(outcome["vm_waits"])


def _vm_waits(waits: Doc) -> Iterator[str]:
    if waits["cores_first"] is not None:
        cores = f"from {waits['cores_first']:g} to {waits['cores_last']:g}"
        yield from _wrap(
            f"The VM's cores went {cores} meanwhile (at most {waits['cores_most']:g}, at least "
            f"{waits['cores_least']:g}).",
            _INDENT,
        )
    if waits["shrunk_run_s"] > 0:
        held = (
            f"not measured ({waits['throttled_note']})"
            if waits["throttled_s"] is None
            else f"{waits['throttled_s']:.3f} s, summed over the CPUs they ran on"
        )
        yield from _wrap(
            f"It ran {waits['shrunk_run_s']:.3f} s with fewer cores than before. For how long the VM's CPU limit then "
            f"held its processes back: {held}.",
            _INDENT,
        )


def _waits(doc: Doc) -> Iterator[str]:
    yield "Where the time went" if doc["total_is"] == "latency" else "Where the time went so far"
    for key, text in _CAUSES.items():
        span_s = doc["waits"].get(key, 0.0)
        if span_s > 0:
            yield from _wrap(f"{span_s:8.3f} s  {text}", 0)
            if key == "run_s":
                yield from _slowed(doc)
    yield f"{doc['total_s']:8.3f} s  in all"
    for other in doc["controllers"]:
        if other["remembers"] and not other["tells_sums"]:
            parts = [f"{other['waits'][key]:.3f} s {text}" for key, text in _CAUSES.items() if other["waits"].get(key)]
            if parts:
                yield from _wrap(f"(controller {other['controller']} had it before: {'; '.join(parts)})", _INDENT)
    if doc["clocks_disagreed_s"] > 0:
        excess_s = f"{doc['clocks_disagreed_s']:.3f} s"
        yield from _wrap(f"(A VM measured {excess_s} more than its controller saw pass: scaled to that.)", _INDENT)


def _slowed(doc: Doc) -> Iterator[str]:
    """Of the run that answered, what a shrink may have cost it: the quota's own count is an upper bound."""
    waits = _answering_waits(doc)
    if not waits or not waits["shrunk_run_s"]:
        return
    if waits["throttled_s"] is None:
        slowed = f"how much slower is not measured ({waits['throttled_note']})"
    else:
        slowed = f"slowed by at most {min(waits['throttled_s'], waits['shrunk_run_s']):.3f} s"
    yield from _wrap(f"of that {waits['shrunk_run_s']:.3f} s with fewer cores, since its VM shrank: {slowed}", _INDENT)


def _answering_waits(doc: Doc) -> Doc | None:
    """What the VM of the answering attempt measured beside its times."""
    for step in reversed(doc["steps"]):
        if "outcome" in step:
            waits: Doc | None = step["outcome"]["vm_waits"]
            return waits
    return doc["record"]["vm_waits"] if doc["record"] else None


def _costs(doc: Doc) -> Iterator[str]:
    yield "What it cost, in regular core-seconds (one is what a core of a regular VM costs in a second)"
    for cost in doc["costs"]:
        yield from _wrap(f"attempt {cost['attempt']} on {cost['vm']} ({cost['kind']}): {_cost(cost)}", 2)
    if doc["cost_regular_core_s"] is None:
        return
    line = f"in all {'' if doc['cost_complete'] else 'at least '}{doc['cost_regular_core_s']:.4g}"
    if doc["on_regular_core_s"] is not None:
        line += f"; on a regular VM the same work would have cost {doc['on_regular_core_s']:.4g}"
    yield from _wrap(line, 2)


def _cost(cost: Doc) -> str:
    if cost["cpu_core_s"] is None:
        return str(cost["note"])
    text = f"{cost['cpu_core_s']:.3f} core-s x price {cost['price']:.3g} = {cost['cost_regular_core_s']:.4g}"
    if cost["wasted"]:
        text += f", wasted ({cost['note']})"
    return text


def _record(record: Doc) -> Iterator[str]:
    where = f"attempt {record['attempt']} on {record['vm']} ({record['kind']})" if record["vm"] else "no VM is named"
    if record.get("parts") is not None:
        where = "a composition, which its controller ran" if record.get("parts") else "a composition of no parts"
    spans = [(record[key] - record["accepted_unix_ms"]) / 1000 for key in ("start_unix_ms", "end_unix_ms")]
    when = f"started after {spans[0]:.3f} s and ended after {spans[1]:.3f} s" if record["accepted_unix_ms"] else ""
    says = [record["status"], where, when]
    yield from _wrap(f"The final record says: {'; '.join(part for part in says if part)}.", 0, hang=2)
    for part in record.get("parts") or ():
        yield f"  part {part}, which has a story of its own"
    for key, text in (
        ("timed_out", "It ran into its time limit."),
        ("evicted", "It was cut off by an eviction."),
        ("logs_missing", "Its logs went with its VM."),
        ("prewarmed", "Its container had been started ahead of time."),
    ):
        if record[key]:
            yield text


def _wrap(text: str, indent: int, *, hang: int | None = None) -> Sequence[str]:
    """Lines of at most WIDTH columns; what does not fit goes on under the sentence."""
    lead = " " * indent
    if hang is None:
        hang = _INDENT if indent == 0 else indent + 2
    lines = textwrap.wrap(
        lead + text,
        width=WIDTH,
        subsequent_indent=" " * hang,
        drop_whitespace=True,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [""]
