"""Actions, and the order of kinds that a strategy gives them."""

from __future__ import annotations

from fallow.core.eviction import Strategy
from fallow.core.model import ActionSpec, VmKind


def make_spec(name: str = "f", app: str = "", long: bool | None = None, namespace: str = "ns") -> ActionSpec:
    return ActionSpec(
        namespace=namespace, name=name, version="0.0.1", revision="1", kind="python:3", app=app, long=long
    )


def order(strategy: Strategy, spec: ActionSpec) -> list[tuple[VmKind, bool]]:
    """(kind, only if it fits), as it is tried."""
    return [(choice.kind, choice.only_if_fits) for choice in strategy.kinds(spec)]
