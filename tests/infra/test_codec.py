"""The wire format: every message round trips, versions tolerate each other, nonsense is a CodecError."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec, Status
from fallow.infra import codec
from fallow.infra.codec import CodecError, decode, decode_action, encode, encode_action, pack, unpack
from fallow.infra.messages import Cancel, Completed, Hello, Message, Recorded, Report, Result, Run, VmCommand, Welcome

CLASSES: tuple[type, ...] = typing.get_args(Message)

scalars: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    float: st.floats(allow_nan=False),
    str: st.text(st.characters(categories=None), max_size=40),  # lone surrogates too
    bytes: st.binary(max_size=200),
    type(None): st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in scalars:
        return scalars[hint]
    if origin is list:
        return st.lists(values(args[0]), max_size=5)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=5).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if dataclasses.is_dataclass(hint):
        return instances(typing.cast(type, hint))
    return st.one_of(*map(values, args))


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: values(hints[f.name]) for f in dataclasses.fields(cls)})


messages = st.one_of(*map(instances, CLASSES))
report = Report(cores=4.0, memory_mb=2048.0, cpu_used=1.5, memory_used_mb=100.0)
hello = Hello(
    protocol_min=1,
    protocol_max=1,
    vm_id="h1",
    incarnation="i",
    kind="harvest",
    speed=1.0,
    price=0.5,
    runtimes=["python:3"],
    report=report,
    holds=[("a" * 32, 2)],
)


def raw(frame: bytes) -> Any:
    return msgpack.unpackb(frame)


@given(st.lists(messages, max_size=8))
def test_every_message_round_trips(sent: list[Message]) -> None:
    assert decode(encode(sent)) == sent


@given(instances(ActionSpec))
def test_every_action_round_trips(spec: ActionSpec) -> None:
    assert decode_action(encode_action(spec)) == spec


def test_every_message_class_has_a_tag_of_its_own() -> None:
    assert set(CLASSES) == set(codec._TAGS.values())
    assert len(codec._TAGS) == len(CLASSES)


def test_the_wire_format_stands() -> None:
    """Bytes that an older version wrote: a change here breaks restarts one by one."""
    assert raw(encode([Completed(activation_id="a", attempt=3), Cancel(activation_id="b", attempt=1)])) == [
        [5, "a", 3, None],
        [35, "b", 1],
    ]
    assert raw(encode([Recorded(activation_ids=["a"])])) == [[6, ["a"], []]]
    assert raw(encode([hello]))[0][:10] == [
        1,
        1,
        1,
        "h1",
        "i",
        "harvest",
        1.0,
        0.5,
        ["python:3"],
        [4.0, 2048.0, 1.5, 100.0, 0, 0, False, True, "", None, 0, 1, 0, []],
    ]


def test_tags_never_change() -> None:
    from_invoker = ["Hello", "Report", "Returned", "Result", "Completed", "Recorded", "CommandDone"]
    from_controller = ["Welcome", "Rejected", "Run", "Cancel", "VmCommand"]
    stood = {**dict(enumerate(from_invoker, start=1)), **dict(enumerate(from_controller, start=32))}
    assert {tag: cls.__name__ for tag, cls in codec._TAGS.items()} == stood


def test_enum_values_pass_as_plain_ones() -> None:
    result = Result(
        activation_id="a",
        attempt=1,
        status=Status.WHISK_ERROR,
        result=b"{}",
        start_unix_ms=1,
        end_unix_ms=2,
        wait_s=0,
        init_s=None,
        run_s=1,
        cpu_s=None,
    )
    (back,) = decode(encode([result]))
    assert back == result
    assert isinstance(back, Result)
    assert type(back.status) is int


def test_a_newer_peers_messages_are_skipped_and_its_fields_ignored() -> None:
    frame = pack([[5, "a", 3, None, "a new field", {"another": 1}], [99, {"a new": "message"}], [35, "b", 1]])
    assert decode(frame) == [Completed(activation_id="a", attempt=3), Cancel(activation_id="b", attempt=1)]


def test_an_older_peers_missing_fields_take_their_defaults() -> None:
    assert decode(pack([[5, "a", 3]])) == [Completed(activation_id="a", attempt=3)]
    assert decode(pack([[36, 7, "withdraw"]])) == [VmCommand(command_id=7, verb="withdraw")]
    assert decode(pack([[2, 4.0, 2048.0, 1.5, 100.0]])) == [report]
    assert decode(pack([[1, *dataclasses.astuple(hello)[:8], [4.0, 2048.0, 1.5, 100.0], [["a" * 32, 2]]]])) == [hello]


def test_the_nested_report_is_as_tolerant() -> None:
    message = raw(encode([hello]))[0]
    message[9] = [*message[9], "a new field"]
    assert decode(pack([message])) == [hello]


def test_arguments_pass_untouched() -> None:
    args = bytes(range(256)) * 4096
    run = Run(
        activation_id="a",
        attempt=1,
        seq=1,
        action=b"x",
        args=args,
        cap_cores=1.0,
        subject="s",
        transaction_id="t",
        accepted_unix_ms=1,
    )
    (back,) = decode(encode([run]))
    assert isinstance(back, Run)
    assert back.args == args


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "not a frame"),
        (b"\xc1", "not a frame"),
        (pack([[5, "a", 1]])[:-1], "not a frame"),
        (pack([[5, "a", 1]]) + b"\x00", "not a frame"),
        (pack(5), "int instead of a list of messages"),
        (pack({}), "dict instead of a list of messages"),
        (pack({"a": 1}), "dict instead of a list of messages"),
        (pack([5]), "not a message"),
        (pack([[]]), "not a message"),
        (pack([["5", "a", 1]]), "not a message"),
        (pack([[True, "a", 1]]), "not a message"),
        (pack([[5, "a"]]), "Completed: 1 fields, at least 2 are needed"),
        (pack([[5, 7, 1]]), "Completed.activation_id: int instead of str"),
        (pack([[5, "a", True]]), "Completed.attempt: bool instead of int"),
        (pack([[5, "a", None]]), "Completed.attempt: NoneType instead of int"),
        (pack([[6, "abc"]]), "Recorded.activation_ids: str instead of a list"),
        (pack([[6, ["a", 1]]]), "Recorded.activation_ids: int instead of str"),
        (pack([[32, 1, "c", [["a"]]]]), "Welcome.cancel: 1 values instead of 2"),
        (pack([[32, 1, "c", [["a", "b"]]]]), "Welcome.cancel: str instead of int"),
        (b"\xdd\xff\xff\xff\xff", "not a frame"),  # a list that claims four thousand million items
        (b"\x91" * 100_000, "not a frame"),  # nested beyond reason
        (b"\x91\xd6\xff\x00\x00\x00\x00", "not a message"),  # an extension type
        (b"\x91\x93\x05\xa1\xff\x01", "not a frame"),  # no UTF-8
    ],
)
def test_nonsense_is_a_short_codec_error(frame: bytes, says: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(frame)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_bad_type_is_found_after_good_ones_were_seen() -> None:
    assert decode(pack([[5, "a", 1]]))
    with pytest.raises(CodecError, match="bytes instead of str"):
        decode(pack([[5, b"a", 1]]))


@given(st.binary(max_size=300))
def test_random_bytes_never_break_the_reader(frame: bytes) -> None:
    try:
        decode(frame)
    except CodecError:
        return


def test_an_oversized_frame_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_FRAME_BYTES", 10)
    with pytest.raises(CodecError, match="at most 10 are allowed"):
        decode(encode([Completed(activation_id="a" * 32, attempt=1)]))


@pytest.mark.parametrize("attempt", [1 << 64, object()])
def test_a_value_without_a_wire_form_names_its_message(attempt: Any) -> None:
    with pytest.raises(CodecError, match="cannot encode Completed"):
        encode([Completed(activation_id="a", attempt=attempt)])
    good = Welcome(protocol=1, controller_id="c", cancel=[])
    assert decode(encode([good])) == [good]  # and the encoder is as good as new


def test_equal_actions_are_encoded_and_decoded_once() -> None:
    spec = ActionSpec(namespace="n", name="a", version="0.0.1", revision="1", kind="python:3")
    data = encode_action(spec)
    assert encode_action(dataclasses.replace(spec)) is data
    assert decode_action(bytes(bytearray(data))) is decode_action(data)


def test_large_actions_round_trip_outside_the_cache() -> None:
    big = (("KEY", "v" * 100_000),)
    spec = ActionSpec(namespace="n", name="a", version="0.0.1", revision="1", kind="python:3", init_env=big)
    data = encode_action(spec)
    assert decode_action(data) == spec
    assert decode_action(data) is not decode_action(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", pack(1), pack(["n"]), pack([1, 2, 3, 4, 5])])
def test_nonsense_is_no_action(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_action(data)


json_like = st.recursive(
    st.one_of(scalars[bool], scalars[int], scalars[float], scalars[str], scalars[bytes], st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)


@given(json_like)
def test_plain_values_round_trip(value: Any) -> None:
    assert unpack(pack(value)) == value


def test_pack_refuses_what_it_cannot_give_back() -> None:
    for value in (object(), 1 << 64, report, {1, 2}):
        with pytest.raises(CodecError):
            pack(value)
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(CodecError):
        pack(nested)


def test_a_field_type_without_a_wire_form_is_found_at_import() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="no wire form"):
        codec._Codec(Odd)


def test_the_waits_of_an_attempt_pass_and_differ_by_version() -> None:
    waits = AttemptWaits(shrink_s=1.5, cores_first=4, cores_most=4, cores_least=1, cores_last=1, throttled_note="why")
    assert codec.decode_waits(codec.encode_waits(waits)) == waits
    assert codec.encode_waits(None) == b""
    assert codec.decode_waits(b"") is None
    assert codec.decode_waits(pack([1.0, 2])) == AttemptWaits(cpu_s=1.0, memory_s=2), "an older one"
    newer = [*dataclasses.astuple(waits), "a new field"]
    assert codec.decode_waits(pack(newer)) == waits
    for broken in (pack({"cpu_s": 1}), pack(["long"]), b"\xc1"):
        with pytest.raises(CodecError):
            codec.decode_waits(broken)
