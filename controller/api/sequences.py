"""The components of a sequence as they are put: which actions they name, and whether they can be a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controller.actions_cache import SEQUENCE, ActionsCache
from controller.api import params
from controller.api.code import Code
from controller.api.errors import ApiError, malformed
from controller.api.schema import Patch
from fallow.core.composition import ExpansionError, expanded

NONE_GIVEN = "No component specified for the sequence."
NOT_QUALIFIED = "The fully qualified name of the entity must contain at least the namespace and the name of the entity."
NO_CODE = Code(kind=SEQUENCE, binary=False, content=b"", digest="")


def qualified(name: str, namespace: str) -> str:
    """ "namespace/[package/]action" of "/_/action" and the like. Raises ApiError 400."""
    parts = name.split("/")
    if parts[0] == "":
        parts = parts[1:]
    if len(parts) not in (2, 3):
        raise malformed(NOT_QUALIFIED)
    own = namespace if parts[0] == "_" else params.check_namespace(parts[0])
    return "/".join([own, *map(params.check_name, parts[1:])])


async def checked(patch: Patch, actions: ActionsCache, namespace: str, name: str) -> Patch:
    """A patch whose components are resolved and can be run by the namespace, with the parameter that names them.

    Raises ApiError 400 for components that are none, too many, missing, or come to the sequence itself; 403 for one
    that the namespace may not invoke.
    """
    assert patch.exec is not None
    assert patch.exec.components is not None
    components = [qualified(component, namespace) for component in patch.exec.components]
    if not components:
        raise ApiError(400, NONE_GIVEN)
    parts = await _parts(components, actions, namespace)
    try:
        expanded(f"{namespace}/{name}", components, parts.get)
    except ExpansionError as e:
        raise ApiError(400, str(e)) from None
    named = {"key": "_actions", "value": [f"/{component}" for component in components]}
    return replace(
        patch,
        exec=replace(patch.exec, components=tuple(components)),
        common=replace(patch.common, parameters=[named]),
    )


async def _parts(components: Sequence[str], actions: ActionsCache, caller: str) -> dict[str, tuple[str, ...]]:
    """Of every action that the components come to and that is there, its own components; through bindings, too."""
    found: dict[str, tuple[str, ...]] = {}
    open_names = list(components)
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        namespace, _, action = name.partition("/")
        deployed = await actions.get(namespace, action, caller)
        if deployed is None:
            continue
        stands = f"{deployed.spec.namespace}/{deployed.spec.name}"
        # What is addressed through a binding is the action behind it: a sequence may hide there that contains this one.
        found[name] = deployed.components if stands == name else (stands,)
        open_names += found[name]
    return found
