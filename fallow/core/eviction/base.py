"""Eviction strategies: which kinds of VM may take a call, in which order.

An invocation fails by an eviction only if more of it is left than the notice lasts, so what matters is which functions
run longer than the notice ("long"). The strategies differ in whom they call long and what they forbid them
(Zhang et al., SOSP 2021). A strategy decides kinds; the placement policy then picks a VM of a kind.

A strategy is one class with a factory: `register_strategy("name", factory)`. A name may carry an argument behind a
colon ("bounded:99"), which the factory is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fallow.core.model import ActionSpec, VmKind

APPS_KEPT = 100_000  # long apps remembered; the one whose last long call is longest ago is forgotten first


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChoice:
    """One step of the search: try the VMs of this kind; `only_if_fits` = pass on to the next step if none has room."""

    kind: VmKind
    only_if_fits: bool


class Strategy(Protocol):
    """Learns which apps are long and orders the kinds for a call. Deterministic; memory bounded."""

    name: str

    def observe(self, app_key: tuple[str, str], duration_s: float) -> None:
        """A call of the app (ActionSpec.app_key) ran for `duration_s`, init included."""
        ...

    def is_long(self, spec: ActionSpec) -> bool:
        """Whether its calls are taken to outlast a notice."""
        ...

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        """In order of preference; a kind that is missing is forbidden. It may come twice, first `only_if_fits`."""
        ...


def _fits_then_busy(*kinds: VmKind, busy: tuple[VmKind, ...]) -> tuple[KindChoice, ...]:
    fits = tuple(KindChoice(kind=kind, only_if_fits=True) for kind in kinds)
    return fits + tuple(KindChoice(kind=kind, only_if_fits=False) for kind in busy)


_CHEAP_FIRST = (VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR)
_LONG = _fits_then_busy(VmKind.REGULAR, VmKind.HARVEST, VmKind.SPOT, busy=_CHEAP_FIRST)
_SHORT = _fits_then_busy(*_CHEAP_FIRST, busy=_CHEAP_FIRST)


class PreferRegular:
    """Long calls go to regular VMs while there is room, else to harvest and spot VMs; short ones the other way round.

    An app is long once one of its calls exceeded `grace_s`, unless its action says (`ActionSpec.long`). It stays long:
    a second long call is always possible.

    - Long: regular if it fits, harvest if it fits, spot if it fits; then, all being busy, the least busy harvest,
      spot, regular VM. A busy regular VM is the last resort: the call would wait there behind others as long as
      elsewhere, and keep the next one from its room.
    - Short: harvest, spot, regular, each if it fits, then the same three busy. So a short call takes idle regular room
      rather than wait at a busy harvest VM: that room is paid for already, and a short call gives it back within the
      grace period. Long calls that meanwhile find it taken go to harvest VMs, where most survive.

    Nothing is forbidden: with one kind of VM only, every call runs there.
    """

    name = "prefer-regular"

    def __init__(self, grace_s: float) -> None:
        if grace_s < 0:
            raise ValueError(f"grace_s is {grace_s}: it must not be negative")
        self._grace_s = grace_s
        self._long_apps: dict[tuple[str, str], None] = {}  # oldest long call first

    def observe(self, app_key: tuple[str, str], duration_s: float) -> None:
        if duration_s <= self._grace_s:
            return
        self._long_apps.pop(app_key, None)
        self._long_apps[app_key] = None
        if len(self._long_apps) > APPS_KEPT:
            del self._long_apps[next(iter(self._long_apps))]

    def is_long(self, spec: ActionSpec) -> bool:
        if spec.long is not None:
            return spec.long
        return spec.app_key in self._long_apps

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        return _LONG if self.is_long(spec) else _SHORT


StrategyFactory = Callable[[float, str], Strategy]  # (grace_s, what stands behind the colon or "")

_REGISTRY: dict[str, StrategyFactory] = {}


def register_strategy(name: str, factory: StrategyFactory) -> None:
    """Make a strategy known by name. Raises ValueError if the name is taken; the factory does so on a bad argument."""
    if name in _REGISTRY:
        raise ValueError(f"strategy {name!r} is registered already")
    _REGISTRY[name] = factory


def strategies() -> Mapping[str, StrategyFactory]:
    """The registered strategies by name."""
    return dict(_REGISTRY)


def make_strategy(name: str, grace_s: float) -> Strategy:
    """The strategy of that name ("name" or "name:argument"). `grace_s` is the notice before an eviction.

    Raises ValueError that lists the known ones, or says what is wrong with the argument.
    """
    base, _, argument = name.partition(":")
    try:
        factory = _REGISTRY[base]
    except KeyError:
        raise ValueError(f"unknown strategy {name!r}; known: {', '.join(sorted(_REGISTRY))}") from None
    return factory(grace_s, argument)


def _make_prefer_regular(grace_s: float, argument: str) -> Strategy:
    if argument:
        raise ValueError(f"strategy 'prefer-regular' takes no argument, but was given {argument!r}")
    return PreferRegular(grace_s)


register_strategy(PreferRegular.name, _make_prefer_regular)
