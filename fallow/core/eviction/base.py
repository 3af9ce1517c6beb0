"""The seam of eviction strategies: what a strategy learns and answers, and the registry it is found in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fallow.core.model import ActionSpec, VmKind

AppKey = tuple[str, str]  # ActionSpec.app_key


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChoice:
    """One step of the search: try the VMs of this kind; `only_if_fits` = pass on to the next step if none has room."""

    kind: VmKind
    only_if_fits: bool


class Strategy(Protocol):
    """Learns which apps are long and orders the kinds for a call. Deterministic; memory bounded."""

    name: str

    def observe(self, app_key: AppKey, duration_s: float) -> None:
        """A call of the app ran for `duration_s`, init included."""
        ...

    def observe_cut_off(self, app_key: AppKey, ran_s: float) -> None:
        """A call of the app had been on its VM for `ran_s` when an eviction cut it off: it would have taken longer."""
        ...

    def is_long(self, spec: ActionSpec) -> bool:
        """Whether its calls are taken to outlast a notice, so far as is known now."""
        ...

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        """In order of preference; a kind that is missing is forbidden. It may come twice, first `only_if_fits`."""
        ...


def fits_then_busy(*kinds: VmKind, busy: tuple[VmKind, ...]) -> tuple[KindChoice, ...]:
    """Each of `kinds` if a VM of it has room; then, all being busy, those of `busy` without that condition."""
    fits = tuple(KindChoice(kind=kind, only_if_fits=True) for kind in kinds)
    return fits + tuple(KindChoice(kind=kind, only_if_fits=False) for kind in busy)


CHEAP_FIRST = (VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR)
SHORT = fits_then_busy(*CHEAP_FIRST, busy=CHEAP_FIRST)
REGULAR_ONLY = (KindChoice(kind=VmKind.REGULAR, only_if_fits=False),)


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
    base, colon, argument = name.partition(":")
    try:
        factory = _REGISTRY[base]
    except KeyError:
        raise ValueError(f"unknown strategy {name!r}; known: {', '.join(sorted(_REGISTRY))}") from None
    if colon and not argument:
        raise ValueError(f"strategy {name!r} has nothing behind the colon")
    return factory(grace_s, argument)


def no_argument(name: str, argument: str) -> None:
    """For factories. Raises ValueError if there is one."""
    if argument:
        raise ValueError(f"strategy {name!r} takes no argument, but was given {argument!r}")
