"""Both codecs, the C parts alone and the json package, say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.runtimes.python.quickjson import make_c_codec, make_json_codec

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_both_encode_alike_and_decode_what_they_encoded(value: Any) -> None:
    (c_loads, c_dumps), (loads, dumps) = make_c_codec(), make_json_codec()
    text = c_dumps(value)
    assert text == dumps(value)
    assert c_loads(text) == loads(text) == value


@pytest.mark.parametrize("make", [make_c_codec, make_json_codec])
@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{} {}", "NaN", "-Infinity", "tru", '"\x01"', "\ufeff{}"])
def test_both_refuse(make: Callable[[], tuple[Callable[[str], Any], Any]], text: str) -> None:
    loads, _ = make()
    with pytest.raises(ValueError, match=r"\w"):
        loads(text)


@pytest.mark.parametrize("make", [make_c_codec, make_json_codec])
def test_both_take_white_space_around(make: Callable[[], tuple[Callable[[str], Any], Any]]) -> None:
    loads, _ = make()
    assert loads(" \r\n\t[1 , 2]\n ") == [1, 2]
