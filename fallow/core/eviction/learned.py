"""Which apps had a call that outlasted the notice: what three of the strategies go by."""

from __future__ import annotations

from fallow.core.eviction.base import AppKey
from fallow.core.model import ActionSpec

APPS_KEPT = 100_000  # long apps remembered; the one whose last long call is longest ago is forgotten first


class LongOnce:
    """An app is long once one of its calls exceeded `grace_s`, and stays so: a second long call is always possible.

    A call that an eviction cut off after more than `grace_s` on its VM exceeded it, too. What an action declares of
    itself (`ActionSpec.long`) counts more than what its app has shown.
    """

    def __init__(self, grace_s: float) -> None:
        if grace_s < 0:
            raise ValueError(f"grace_s is {grace_s}: it must not be negative")
        self._grace_s = grace_s
        self._long_apps: dict[AppKey, None] = {}  # oldest long call first

    def observe(self, app_key: AppKey, duration_s: float) -> None:
        if duration_s <= self._grace_s:
            return
        self._long_apps.pop(app_key, None)
        self._long_apps[app_key] = None
        if len(self._long_apps) > APPS_KEPT:
            del self._long_apps[next(iter(self._long_apps))]

    def observe_cut_off(self, app_key: AppKey, ran_s: float) -> None:
        self.observe(app_key, ran_s)

    def is_long(self, spec: ActionSpec) -> bool:
        if spec.long is not None:
            return spec.long
        return spec.app_key in self._long_apps
