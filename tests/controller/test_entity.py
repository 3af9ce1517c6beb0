"""Names, versions, and whose parameter counts, each against a plain statement of the rule."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.actions_cache import deploy
from controller.api.entity import bumped, merged_annotations, merged_parameters, read_common
from controller.api.errors import ApiError
from controller.api.invoke import merged_args
from controller.api.params import check_name, check_namespace
from fallow.infra.records import ActionDoc, PackageDoc

WORD = string.ascii_letters + string.digits + "_"
INNER = WORD + "@ .&-"


def is_name(text: str) -> bool:
    """1 to 256 characters; the first is a letter, digit or underscore, the last is anything allowed but a space."""
    allowed = all(character in INNER for character in text)
    return 1 <= len(text) <= 256 and allowed and text[0] in WORD and text[-1] != " "


def refusal(check: Callable[[str], str], text: str) -> str:
    """What `check` says of a name; "" = it is one."""
    try:
        check(text)
    except ApiError as e:
        return f"{e.status} {e.text}"
    return ""


def expected(text: str, what: str) -> str:
    if len(text) > 256:
        return f"400 {what} longer than allowed: {len(text)} > 256."
    return "" if is_name(text) else "400 The name of the entity contains illegal characters."


NAMES = st.one_of(
    st.text(max_size=8),
    st.text(alphabet=INNER, max_size=6),
    st.builds(
        lambda first, inner, last: first + inner + last, st.sampled_from(INNER), st.just("x" * 254), st.text(INNER)
    ),
)


@settings(max_examples=200, deadline=None)
@given(NAMES)
@example("x" * 256)
@example("x" * 257)
@example("a\n")
@example("a ")
@example("é")
@example("٣")
def test_names(text: str) -> None:
    assert refusal(check_name, text) == expected(text, "Name segement")
    assert refusal(check_namespace, text) == expected(text, "Namespace")


KEYS = st.sampled_from("abcd")
ITEMS = st.dictionaries(KEYS, st.tuples(st.integers(0, 9), st.booleans())).map(
    lambda found: [
        {"key": key, "value": value, **({"init": True} if init else {})} for key, (value, init) in found.items()
    ]
)


@settings(max_examples=150, deadline=None)
@given(package=ITEMS, binding=ITEMS, action=ITEMS, call=st.dictionaries(KEYS, st.integers(10, 19)))
def test_the_nearest_parameter_counts(package: Any, binding: Any, action: Any, call: dict[str, int]) -> None:
    common: dict[str, Any] = {"version": "0.0.1", "revision": "r", "updated_unix_ms": 1}
    deployed = deploy(
        ActionDoc(namespace="other", name="pkg/act", kind="python:3", parameters=action, **common),
        [
            PackageDoc(namespace="other", name="pkg", parameters=package, **common),
            PackageDoc(namespace="guest", name="bound", parameters=binding, binding="other/pkg", **common),
        ],
        caller="guest",
    )
    given_args = json.loads(merged_args(deployed, json.dumps(call).encode()))
    environment = dict(deployed.spec.init_env)
    for key in "abcd":
        stored = next((item for layer in (action, binding, package) for item in layer if item["key"] == key), None)
        if stored is not None and stored.get("init"):
            assert environment[key] == str(stored["value"])
            stored = None
        else:
            assert key not in environment
        assert given_args.get(key) == call.get(key, stored["value"] if stored is not None else None)
    assert {item["key"] for item in merged_parameters(package, binding, action)} == {
        item["key"] for layer in (package, binding, action) for item in layer
    }


@settings(max_examples=100, deadline=None)
@given(
    old=st.dictionaries(KEYS, st.integers(0, 9)),
    new=st.dictionaries(KEYS, st.integers(10, 19)),
    gone=st.lists(KEYS),
)
def test_annotations_merge_by_key(old: dict[str, int], new: dict[str, int], gone: list[str]) -> None:
    def pairs(values: dict[str, int]) -> list[dict[str, Any]]:
        return [{"key": key, "value": value} for key, value in values.items()]

    merged = merged_annotations(pairs(old), read_common({"annotations": pairs(new), "delAnnotations": gone}))
    kept = {key: value for key, value in old.items() if key not in gone}
    assert {item["key"]: item["value"] for item in merged} == {**kept, **new}
    assert len(merged) == len({item["key"] for item in merged})


@pytest.mark.parametrize(("old", "new"), [("0.0.1", "0.0.2"), ("1.2.9", "1.2.10"), ("0.0.999999999", "0.0.1000000000")])
def test_a_version_is_bumped(old: str, new: str) -> None:
    assert bumped(old) == new
    assert read_common({}).next_version(old) == new
    assert read_common({"version": "7.0.0"}).next_version(old) == "7.0.0"
    assert read_common({}).next_version(None) == "0.0.1"
