"""The actions of whisk.system/utils, called as a runtime calls them."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from functions.system.utils import cat, date, echo, head, namespace, smash, sort, split

UTILS: dict[str, Any] = json.loads(files("functions.system").joinpath("manifest.json").read_text())["utils"]["actions"]
WITH_SAMPLES = [name for name, told in UTILS.items() if "sampleInput" in told]


def test_every_source_is_in_the_manifest_and_the_other_way_round() -> None:
    folder = files("functions.system").joinpath("utils")
    sources = {path.name.removesuffix(".py") for path in folder.iterdir() if path.name.endswith(".py")}
    assert sources - {"__init__"} == set(UTILS)


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_a_sample_gives_what_the_manifest_says(name: str) -> None:
    main = importlib.import_module(f"functions.system.utils.{name}").main
    assert main(json.loads(json.dumps(UTILS[name]["sampleInput"]))) == UTILS[name]["sampleOutput"]


def test_sort_goes_by_the_texts() -> None:
    assert sort.main({"lines": [10, 9, "b", "a", True]}) == {"lines": [10, 9, "a", "b", True], "length": 5}
    assert sort.main({}) == {"lines": [], "length": 0}


def test_cat_joins_what_is_no_text_as_json() -> None:
    assert cat.main({"lines": ["ü", None, True, {"a": 1}], "x": 1})["payload"] == 'ü\n\ntrue\n{"a":1}'
    assert cat.main({}) == {"lines": [], "payload": ""}


def test_split_takes_lines_where_no_separator_is_given() -> None:
    assert split.main({"payload": "a\r\nb\nc"})["lines"] == ["a", "b", "c"]
    assert split.main({"payload": 12.5, "separator": "."}) == {"lines": ["12", "5"], "payload": 12.5}


def test_head_takes_one_where_no_number_is_given() -> None:
    assert head.main({"lines": ["a", "b"]}) == {"lines": ["a"], "num": 1}
    assert head.main({"lines": ["a"], "num": 5}) == {"lines": ["a"], "num": 5}


def test_echo_date_and_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert echo.main({"x": [1]}) == {"x": [1]}
    before = datetime.now(UTC)
    told = date.main({})["date"]
    assert told.endswith("Z")
    assert abs((datetime.fromisoformat(told) - before).total_seconds()) < 60
    monkeypatch.setenv("__OW_NAMESPACE", "ann")
    assert namespace.main({}) == {"namespace": "ann"}


@pytest.mark.parametrize(
    ("action", "args"),
    [
        (sort, {"lines": "a"}),
        (cat, {"lines": {"a": 1}}),
        (head, {"lines": 3}),
        (head, {"lines": [], "num": "2"}),
        (split, {}),
        (split, {"payload": ["a"]}),
        (split, {"payload": "a", "separator": 1}),
        (smash, {"a": 1}),
    ],
)
def test_bad_arguments_are_an_application_error(action: Any, args: dict[str, Any]) -> None:
    result = action.main(args)
    assert list(result) == ["error"]
    assert result["error"].startswith("Expected an argument '")
