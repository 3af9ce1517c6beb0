"""An activation's story (the admin route `why`) in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SHOWN = 6  # considered VMs a line names

_SENTENCES = {
    "placed": "placed on {vm} as attempt {attempt}",
    "waited": "waited in the controller",
    "returned": "given back unstarted by {vm}",
    "notice": "an eviction of {vm} was announced",
    "cut off": "cut off on {vm}",
    "fence asked": "asked for the fence of attempt {attempt}",
    "fence raised": "the fence of attempt {attempt} is raised",
    "made durable": "entered in the stream",
    "finished": "finished on {vm}",
    "late result discarded": "a late result from {vm} was discarded",
    "concluded": "ended by the controller",
    "refused": "refused",
    "forgotten": "left to its record or to another controller",
}


def story_lines(story: dict[str, Any]) -> Iterator[str]:
    """One line a step: seconds since arrival, what happened, why; below a placement, the VMs that were considered."""
    kind = "asynchronous" if story["durable"] else "blocking"
    state = "ended" if story["ended"] else "not ended yet"
    yield f"{story['activationId']}  {story['action']}  {kind}, {story['attempts']} attempt(s), {state}"
    for step in story["steps"]:
        sentence = _SENTENCES.get(step["what"], step["what"]).format(vm=step["vm"] or "its VM", attempt=step["attempt"])
        note = f": {step['note']}" if step["note"] else ""
        yield f"{step['after_s']:9.3f} s  {sentence}{note}"
        if step["considered"]:
            yield f"             considered {_considered(step['considered'])}"
    if story["left_out"]:
        yield f"             ({story['left_out']} steps from the middle were not kept)"


def _considered(considered: list[dict[str, Any]]) -> str:
    shown = [
        f"{c['vm']} ({c['kind']}, score {c['score']:.2f}, {'fits' if c['fits'] else 'does not fit'}"
        + (f", {c['note']})" if c["note"] else ")")
        for c in considered[:SHOWN]
    ]
    more = len(considered) - SHOWN
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
