"""Where policies are found by name: those that Fallow brings, those of installed packages, and `module:Class`.

A package announces its policy by an entry point of the group `fallow.policies`; a policy in a file of one's own is
named as `module:Class`, looked for in the working directory too. Both are called with the Rng they may use, and are
held to the contract by `Guarded`. The CLI and the processes it starts find the same policy by the same name.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import EntryPoint, entry_points

import fallow.core.policies  # noqa: F401 - registers the policies that Fallow brings
from fallow.core.policies.base import Policy, PolicyFactory, Rng, make_policy, policies
from fallow.core.policies.guarded import Guarded, OnFault, give_up

GROUP = "fallow.policies"


def policy_names() -> list[str]:
    """All that can be named without a module, in order of the alphabet."""
    return sorted({*policies(), *(point.name for point in entry_points(group=GROUP))})


def find_policy(name: str, rng: Rng, on_fault: OnFault = give_up) -> Policy:
    """The policy of that name, new. Those that Fallow brings come before an entry point of the same name.

    Raises ValueError that says what is wrong with the name, or what its module or class raised.
    """
    if name in policies():
        return make_policy(name, rng)
    try:
        policy = _factory(name)(rng)
    except ValueError:
        raise
    except Exception as e:
        raise ValueError(f"policy {name!r} cannot be made: {type(e).__name__}: {e}") from e
    missing = [hook for hook in _HOOKS if not callable(getattr(policy, hook, None))]
    if missing:
        raise ValueError(f"policy {name!r} is no policy: it lacks {', '.join(missing)}")
    return Guarded(name, policy, on_fault)


_HOOKS = ("vm_joined", "vm_usable", "vm_left", "arrived", "completed", "place")


def _factory(name: str) -> PolicyFactory:
    module_name, colon, attribute = name.partition(":")
    if not colon:
        return _announced(name)
    if not module_name or not attribute:
        raise ValueError(f"policy {name!r} is not of the form module:Class")
    try:
        module = _imported(module_name)
    except Exception as e:
        raise ValueError(f"policy {name!r}: module {module_name!r} cannot be imported: {e}") from e
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ValueError(f"policy {name!r}: module {module_name!r} has no class {attribute!r}")
    return factory  # type: ignore[no-any-return]  # what it makes is checked by its caller


def _announced(name: str) -> PolicyFactory:
    points: list[EntryPoint] = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        known = ", ".join(policy_names())
        raise ValueError(f"unknown policy {name!r}; known: {known}, or your own as module:Class")
    try:
        factory = points[0].load()
    except Exception as e:
        raise ValueError(f"policy {name!r}: {points[0].value} cannot be imported: {e}") from e
    return factory  # type: ignore[no-any-return]


def _imported(module_name: str) -> object:
    """With the working directory on the path, as it is for `python -m`: a console script lacks it."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module_name)
