"""bounded:P: on evictable VMs only apps of which at most (100 - P) % of the calls outlast a notice."""

from __future__ import annotations

import re
from collections import OrderedDict
from fractions import Fraction

from fallow.core.eviction.base import REGULAR_ONLY, SHORT, AppKey, KindChoice, Strategy, register_strategy
from fallow.core.model import ActionSpec

APPS_KEPT = 100_000  # apps remembered; the one whose last call is longest ago is forgotten first
_PERCENTILE = re.compile(r"\d{1,3}(\.\d{1,6})?")


class Bounded:
    """An app is long while the P-th percentile of its durations exceeds `grace_s`; long ones on regular VMs only.

    By nearest rank, over all calls of the app since this controller began. Whether a percentile exceeds a bound that
    is known beforehand needs no sample kept and no estimate: of n durations the P-th percentile is the one of rank
    ceil(P n / 100), and it exceeds the bound just if fewer than P n / 100 of them do not. So two counts an app hold all
    there is to know, and the answer has no error.

    Example, P = 99: an app's first call takes 40 s of 30: 0 of 1 is short, less than 0.99, long. Its next 98 are short:
    98 of 99, less than 98.01: long. The 100th makes 99 of 100, not less than 99: short from now on, until a second long
    call comes before the 200th.

    A call that an eviction cut off after more than `grace_s` counts as one that exceeded it; one cut off earlier would
    have taken nobody knows how long and does not count. What an action declares of itself (`ActionSpec.long`) counts
    more than what its app has shown. Short calls: as under no-failures.

    Caveats. The more calls an app has had, the longer it takes to notice that it has changed. bounded:100 is
    no-failures, except for apps that were forgotten.

    Source: strategy 2 of Zhang et al., SOSP 2021 (P99 and P99.9 there). Departure: theirs knows each app's history.
    """

    def __init__(self, grace_s: float, percentile: Fraction) -> None:
        """Raises ValueError unless 0 < percentile <= 100 and grace_s >= 0."""
        if grace_s < 0:
            raise ValueError(f"grace_s is {grace_s}: it must not be negative")
        if not 0 < percentile <= 100:
            raise ValueError(f"the percentile is {float(percentile):.9g}: it must be above 0 and at most 100")
        self.name = f"bounded:{float(percentile):.9g}"
        self._grace_s = grace_s
        self._share = percentile / 100
        self._apps: OrderedDict[AppKey, list[int]] = OrderedDict()  # [short calls, calls]; called longest ago first

    def observe(self, app_key: AppKey, duration_s: float) -> None:
        counts = self._apps.get(app_key)
        if counts is None:
            counts = self._apps[app_key] = [0, 0]
            if len(self._apps) > APPS_KEPT:
                self._apps.popitem(last=False)
        else:
            self._apps.move_to_end(app_key)
        counts[0] += duration_s <= self._grace_s
        counts[1] += 1

    def observe_cut_off(self, app_key: AppKey, ran_s: float) -> None:
        if ran_s > self._grace_s:
            self.observe(app_key, ran_s)

    def is_long(self, spec: ActionSpec) -> bool:
        if spec.long is not None:
            return spec.long
        counts = self._apps.get(spec.app_key)
        if counts is None:
            return False
        short, calls = counts
        return short * self._share.denominator < calls * self._share.numerator

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        return REGULAR_ONLY if self.is_long(spec) else SHORT


def _make(grace_s: float, argument: str) -> Strategy:
    if not argument:
        raise ValueError("strategy 'bounded' needs a percentile, such as bounded:99 or bounded:99.9")
    if not _PERCENTILE.fullmatch(argument):
        raise ValueError(f"strategy 'bounded:{argument}': {argument!r} is no percentile, such as 99 or 99.9")
    try:
        return Bounded(grace_s, Fraction(argument))
    except ValueError as e:
        raise ValueError(f"strategy 'bounded:{argument}': {e}") from None


register_strategy("bounded", _make)
