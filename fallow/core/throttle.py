"""Whether one more call of a namespace is within its limits: calls a minute, calls at once, fires a minute.

Minutes are those of the wall clock: a window begins when the second hand passes twelve, so a burst across that moment
may be twice the limit within sixty seconds. A rejected call counts as one made: who goes on hammering stays rejected
until the minute is over. Calls at once count while they are in flight, and a rejected call never is.

Several controllers divide a limit without speaking to each other. Each allows a fifth more than an equal share, since
a load balancer never divides evenly, and at least one: of 60 a minute, two controllers allow 36 each. Together they may
so admit 1.2 times the limit, rounded up, or one call each where there are more controllers than that. A limit of 0
stays 0. The windows, the division and the texts are OpenWhisk's (RateThrottler, ActivationThrottler, Entitlement).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one namespace may do, on all controllers together."""

    invocations_per_minute: int
    concurrent_invocations: int
    fires_per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a namespace may do other than the default; None = as the default says."""

    invocations_per_minute: int | None = None
    concurrent_invocations: int | None = None
    fires_per_minute: int | None = None

    def over(self, default: Quota) -> Quota:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(default, **{name: limit for name, limit in given.items() if limit is not None})


# Wide enough for every load that a cluster of this kind carries, and small enough to be a number in any client.
WIDE = Quota(invocations_per_minute=1_200_000, concurrent_invocations=20_000, fires_per_minute=1_200_000)
OPENWHISK = Quota(invocations_per_minute=60, concurrent_invocations=30, fires_per_minute=60)
QUOTAS = {"wide": WIDE, "openwhisk": OPENWHISK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A call that is over a limit: what to say of it, and when another one may pass."""

    text: str
    retry_after_s: int  # whole seconds, as the header has them


def share(limit: int, controllers: int) -> int:
    """What one of so many live controllers allows of a limit."""
    if controllers <= 1 or limit <= 0:
        return max(0, limit)
    return max(1, (6 * limit + 4) // 5 // controllers)


class MinuteCounts:
    """Calls by namespace within the present minute; O(1) a call, and memory for the namespaces that called in it."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[str, int] = {}

    def count(self, namespace: str, allowed: int, now_unix_ms: int) -> Excess | None:
        """Counts one call, whatever the answer; None = it is within the limit of `allowed` a minute."""
        minute = now_unix_ms // MINUTE_MS
        if minute != self._minute:  # also where the clock was set back: a window is what shares a minute
            self._minute = minute
            self._counts.clear()
        counted = self._counts.get(namespace, 0) + 1
        self._counts[namespace] = counted
        if counted <= allowed:
            return None
        left_ms = MINUTE_MS - now_unix_ms % MINUTE_MS
        text = f"Too many requests in the last minute (count: {counted}, allowed: {allowed})."
        return Excess(text=text, retry_after_s=-(-left_ms // 1000))


def at_once(in_flight: int, allowed: int) -> Excess | None:
    """None = one more call beside those `in_flight` is within the limit."""
    if in_flight < allowed:
        return None
    text = f"Too many concurrent requests in flight (count: {in_flight}, allowed: {allowed})."
    return Excess(text=text, retry_after_s=1)
