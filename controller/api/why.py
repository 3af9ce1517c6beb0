"""The story of an activation as the routes show it: what this controller remembers, and the final record.

Keys end in their unit. A cluster of several controllers keeps a part of a story in each: `fallow why` asks all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.api import params
from controller.api.errors import STORE_AWAY, not_found
from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec, ActivationId, Outcome, Status, VmKind
from fallow.core.why.causes import Cause
from fallow.core.why.cost import AttemptCost, attempt_costs
from fallow.core.why.placement import PassedOver, Placement
from fallow.core.why.story import CoresChange, Story, StoryStep
from fallow.infra import codec
from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import Store, StoreError

_log = get_logger("controller.why")

StoryOf = Callable[[ActivationId], Story | None]


class WhyAnswers:
    """Tells the stories of one controller."""

    def __init__(
        self, *, controller_id: str, strategy: str, story_of: StoryOf, store: Store, live: Callable[[], int]
    ) -> None:
        """`live` counts the controllers that hold a lease."""
        self._controller_id = controller_id
        self._strategy = strategy
        self._story_of = story_of
        self._store = store
        self._live = live

    async def tell(self, text: str, *, namespace: str | None) -> dict[str, Any]:
        """The part of this controller, with the record. `namespace` None asks for any, as an operator may.

        Raises ApiError: 400 for an id that is none, 404 where neither is known in that namespace; and StoreError where
        nothing is remembered and the store cannot be asked.
        """
        activation_id = ActivationId(params.check_activation_id(text))
        story = self._story_of(activation_id)
        if story is not None and namespace not in (None, story.action.caller_namespace):
            raise not_found()
        record, trouble = None, ""
        try:
            record = await self._store.get_record(namespace, activation_id)
        except StoreError as e:
            if story is None:
                raise
            _log.warning("record not read for a story", activation=activation_id, error=str(e))
            trouble = STORE_AWAY  # in the error's own words the store's address may stand, and its password
        if story is None and record is None:
            raise not_found()
        return {
            **(_remembered(story, self._strategy) if story else _forgotten(activation_id, record)),
            "controller": self._controller_id,
            "controllers_live": self._live(),
            "record": None if record is None else record_facts(record),
            "record_note": trouble,
        }


def _remembered(story: Story, strategy: str) -> dict[str, Any]:
    arrived_unix_ms = story.arrived_unix_ms
    before_s = max(0.0, (arrived_unix_ms - story.accepted_unix_ms) / 1000)
    waits = {f"{cause.value}_s": round(story.spent.by_cause.get(cause, 0.0), 6) for cause in Cause}
    waits["before_s"] = before_s
    return {
        "activationId": story.activation_id,
        "action": str(story.action.key),
        "remembered": True,
        "blocking": story.blocking,
        "durable": story.durable,
        "attempts": story.attempts,
        "ended": story.ended,
        "accepted_unix_ms": story.accepted_unix_ms,
        "arrived_unix_ms": arrived_unix_ms,
        "steps": [_step(step, story.action, arrived_unix_ms, strategy) for step in story.steps],
        "left_out": story.left_out,
        "waits": waits,
        "total_s": round(sum(waits.values()), 6),
        "clocks_disagreed_s": round(story.spent.disagreed_s, 6),
        "costs": [_cost(cost) for cost in attempt_costs(story)],
    }


def _forgotten(activation_id: ActivationId, record: Record | None) -> dict[str, Any]:
    assert record is not None
    return {
        "activationId": activation_id,
        "action": f"{record.namespace}/{record.name}",
        "remembered": False,
        "blocking": None,
        "durable": None,
        "attempts": record.attempt,
        "ended": True,
        "accepted_unix_ms": record.accepted_unix_ms,
        "arrived_unix_ms": None,
        "steps": [],
        "left_out": 0,
        "waits": None,
        "total_s": None,
        "clocks_disagreed_s": 0.0,
        "costs": [],
    }


def _step(step: StoryStep, action: ActionSpec, arrived_unix_ms: int, strategy: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "after_s": round(step.after_s, 6),
        "at_unix_ms": round(arrived_unix_ms + step.after_s * 1000, 3),
        "what": step.what.value,
        "attempt": step.attempt,
        "vm": step.vm_id,
        "note": step.note,
        "considered": [],
        "passed_over": [],
    }
    match step.detail:
        case Placement() as placement:
            shown["passed_over"] = [_passed_over(one) for one in placement.passed_over]
            shown |= _placement(placement, action, strategy)
        case Outcome() as outcome:
            shown["outcome"] = _outcome(outcome)
        case AttemptWaits() as waits:
            shown["vm_waits"] = waits_json(waits)
        case CoresChange() as change:
            shown["cores_before"], shown["cores_after"] = change.before, change.after
        case tuple() as passed_over:
            shown["passed_over"] = [_passed_over(one) for one in passed_over]
        case None:
            pass
    return shown


def _placement(placement: Placement, action: ActionSpec, strategy: str) -> dict[str, Any]:
    info, decision = placement.info, placement.decision
    named = dict.fromkeys(choice.kind for choice in placement.choices)
    before = list(named)[: list(named).index(info.kind)] if info.kind in named else list(named)
    return {
        "kind": info.kind.value,
        "price": info.price,
        "speed": info.speed,
        "vm_cores": placement.cores,
        "fits": decision.fits,
        "booked_cores": decision.cpu_cores,
        "booked_mb": decision.memory_mb,
        "considered": [
            {"vm": c.vm_id, "kind": c.kind.value, "score": c.score, "fits": c.fits, "note": c.note}
            for c in placement.considered
        ],
        "long": placement.long,
        "long_why": _why_long(action, placement.long, strategy),
        "kinds_preferred": [kind.value for kind in named],
        "kinds_forbidden": [kind.value for kind in VmKind if kind not in named],
        "kinds_full": [kind.value for kind in placement.asked if kind is not info.kind],
        "kinds_unusable": [kind.value for kind in before if kind not in placement.asked],
    }


def _why_long(action: ActionSpec, long: bool, strategy: str) -> str:
    if action.long is not None:
        return f"declared: its annotation `long` is {str(action.long).lower()}"
    app = action.app or action.name
    if long:
        return f"learned: by the calls it has seen the strategy {strategy} takes the app '{app}' for long"
    return f"by the calls it has seen the strategy {strategy} does not take the app '{app}' for long"


def _passed_over(one: PassedOver) -> dict[str, Any]:
    return {"vm": one.vm_id, "kind": one.kind.value, "why": one.why}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status.text,
        "wait_s": outcome.wait_s,
        "init_s": outcome.init_s,
        "run_s": outcome.run_s,
        "cpu_s": outcome.cpu_s,
        "prewarmed": outcome.prewarmed,
        "vm_waits": None if outcome.waits is None else waits_json(outcome.waits),
    }


def waits_json(waits: AttemptWaits) -> dict[str, Any]:
    """What the VM measured beside the outcome; `cores_*` are None where its cores did not change."""
    changed = waits.cores_changed
    return {
        "cpu_s": waits.cpu_s,
        "memory_s": waits.memory_s,
        "starts_s": waits.starts_s,
        "shrink_s": waits.shrink_s,
        "start_s": waits.start_s,
        "cores_first": waits.cores_first if changed else None,
        "cores_most": waits.cores_most if changed else None,
        "cores_least": waits.cores_least if changed else None,
        "cores_last": waits.cores_last if changed else None,
        "shrunk_run_s": waits.shrunk_run_s,
        "throttled_s": waits.throttled_s,
        "throttled_note": waits.throttled_note,
    }


def _cost(cost: AttemptCost) -> dict[str, Any]:
    return {
        "attempt": cost.attempt,
        "vm": cost.vm_id,
        "kind": cost.kind.value,
        "price": cost.price,
        "speed": cost.speed,
        "cpu_core_s": cost.cpu_s,
        "cost_regular_core_s": cost.cost,
        "on_regular_core_s": cost.regular_cost,
        "wasted": cost.wasted,
        "note": cost.note,
    }


def record_facts(record: Record) -> dict[str, Any]:
    """What the final record says of where and how the activation ran."""
    waits = codec.decode_waits(record.waits)
    return {
        "status": Status(record.status).text,
        "attempt": record.attempt,
        "vm": record.vm_id or None,
        "kind": record.vm_kind or None,
        "price": record.vm_price,
        "speed": record.vm_speed,
        "accepted_unix_ms": record.accepted_unix_ms,
        "start_unix_ms": record.start_unix_ms,
        "end_unix_ms": record.end_unix_ms,
        "wait_ms": record.wait_ms,
        "init_ms": record.init_ms,
        "run_ms": record.run_ms,
        "cpu_ms": record.cpu_ms,
        "prewarmed": record.prewarmed,
        "timed_out": record.timed_out,
        "evicted": record.evicted,
        "logs_missing": record.logs_missing,
        # Of a sequence or composition: the activations of its parts, and the time spent in them.
        "parts": None if record.topmost is None else list(record.logs),
        "parts_ms": record.duration_ms,
        "vm_waits": None if waits is None else waits_json(waits),
    }
