"""Final activation records and the fence that keeps them at one per activation."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.infra.codec import CodecError, pack, unpack
from fallow.infra.records import Record
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Argument, Call, Connection
from fallow.infra.store.errors import StoreError
from fallow.infra.store.rows import RECORDS
from fallow.infra.store.values import FenceVerdict, Usage, WriteVerdict

RECORD_OVERHEAD_BYTES = 640  # keys, index entries, allocator: measured on Valkey 9.1 beside the bytes of a record
FENCE_TTL_S = 86_400  # how long a stray attempt of a retried call is still refused
TOMBSTONE_S = 600  # a record trimmed younger than this still refuses a second one for as long
_TOMBSTONE_FENCE = 1_000_000_000
_WRITE_BATCH = 64  # records in one run of the script: a few milliseconds of Redis
_TRIM_BATCH = 200  # some milliseconds of Redis


class ActivationStore:
    _connection: Connection

    async def write_records(self, records: Sequence[Record]) -> list[WriteVerdict]:
        """Writes final records in one round trip; a verdict for each, in order.

        A record is written if its activation has none and its attempt is not below the fence (absent = 0); its stream
        entry is acknowledged and removed with it. Each is atomic, the whole is not: after an error any of them may
        stand, and writing all again is safe (those that stood answer EXISTS).
        """
        if not records:
            return []
        try:
            calls = [_write(records[i : i + _WRITE_BATCH]) for i in range(0, len(records), _WRITE_BATCH)]
        except CodecError as e:
            raise StoreError(f"a record has no form that can be stored: {e}") from e
        replies = await self._connection.run_all(calls)
        return [WriteVerdict(verdict.decode()) for verdicts in replies for verdict in verdicts]

    async def get_record(self, namespace: str | None, activation_id: str) -> Record | None:
        """None = no such record in this namespace (in any, where `namespace` is None)."""
        key = keys.record(activation_id)
        document, result, logs = await self._connection.call("HMGET", key, "d", "r", "l")
        if document is None:
            return None
        record = _record(key, document, result, logs)
        return record if namespace in (None, record.namespace) else None

    async def list_records(
        self,
        namespace: str,
        *,
        name: str | None = None,
        since: int | None = None,
        upto: int | None = None,
        skip: int = 0,
        limit: int = 30,
        docs: bool = False,
    ) -> list[Record]:
        """Latest start first; a limit of 0 gives none.

        `name` is an action's ("action" or "package/action"); `since` and `upto` bound the start in Unix ms, inclusive.
        Without `docs`, result and logs are left empty. Costs O(log n + skip + limit).
        """
        if limit <= 0:
            return []
        fields = ("d", "r", "l") if docs else ("d",)
        found = await self._connection.run(
            scripts.LIST_RECORDS,
            [_index(namespace, name)],
            [keys.record(""), _bound(upto, "+inf"), _bound(since, "-inf"), skip, limit, *fields],
        )
        records = []
        for activation_id, (document, *rest) in found:
            result, logs = rest or (b"", None)
            records.append(_record(keys.record(activation_id.decode()), document, result, logs))
        return records

    async def count_records(
        self, namespace: str, *, name: str | None = None, since: int | None = None, upto: int | None = None
    ) -> int:
        """How many `list_records` would give without skip and limit."""
        bounds = (_bound(since, "-inf"), _bound(upto, "+inf"))
        return int(await self._connection.call("ZCOUNT", _index(namespace, name), *bounds))

    async def raise_fence(self, activation_id: str, *, expect: int, attempt: int, controller_id: str) -> FenceVerdict:
        """Raises the fence from `expect` to `attempt`, by compare-and-set: no earlier attempt may write any more.

        `expect` 0 and 1 both match an absent fence: attempt 1 of a blocking call starts without one. Repeating one's
        own successful raise is RAISED again.
        """
        reply = await self._connection.run(
            scripts.FENCE,
            [keys.record(activation_id), keys.run(activation_id)],
            [expect, attempt, controller_id, FENCE_TTL_S],
        )
        return FenceVerdict(reply.decode())

    async def read_fence(self, activation_id: str) -> int:
        """0 = absent."""
        return int(await self._connection.call("HGET", keys.run(activation_id), "fence") or 0)

    async def trim(self, *, max_age_s: float, max_count: int, max_bytes: int, now_unix_ms: int) -> int:
        """Removes records, oldest end first, until none is older and they are within count and bytes; how many went.

        Works in batches, so that Redis serves others meanwhile.
        """
        args: list[Argument] = [
            now_unix_ms - int(max_age_s * 1000),
            max_count,
            max_bytes,
            _TRIM_BATCH,
            now_unix_ms - TOMBSTONE_S * 1000,
            _TOMBSTONE_FENCE,
            TOMBSTONE_S,
            keys.record(""),
            keys.records(""),
            keys.records_of("", "").removesuffix(":"),
            keys.run(""),
        ]
        total = 0
        while True:
            removed = int(await self._connection.run(scripts.TRIM, [keys.retention(), keys.usage()], args))
            total += removed
            if removed < _TRIM_BATCH:
                return total

    async def usage(self) -> Usage:
        counters, entries = await self._connection.pipeline(
            [("HMGET", keys.usage(), "records", "record_bytes", "entry_bytes"), ("XLEN", keys.stream())],
        )
        records, record_bytes, entry_bytes = (int(counter or 0) for counter in counters)
        return Usage(records=records, record_bytes=record_bytes, entries=entries, entry_bytes=entry_bytes)


def _write(records: Sequence[Record]) -> Call:
    # Few long arguments: encoding one costs the client a microsecond, and Redis none.
    args: list[Argument] = [
        RECORD_OVERHEAD_BYTES,
        keys.GROUP,
        FENCE_TTL_S,
        keys.record(""),
        keys.run(""),
        keys.records(""),
        keys.records_of("", "").removesuffix(":"),
    ]
    for one in records:
        times = f"{one.start_unix_ms} {one.end_unix_ms}"
        args.append(f"{one.activation_id} {one.attempt} {times} {one.namespace}:{one.name}")
        args += (RECORDS.to_bytes(one), one.result, pack(one.logs) if one.logs else b"")
    return Call(script=scripts.RECORDS, keys=[keys.stream(), keys.usage(), keys.retention()], args=args)


def _record(key: str, document: bytes, result: bytes, logs: bytes | None) -> Record:
    try:
        lines = [] if logs is None else unpack(logs)
    except CodecError as e:
        raise StoreError(f"the log lines of {key} cannot be read: {e}") from e
    return RECORDS.from_bytes(document, key, result=result, logs=lines)


def _index(namespace: str, name: str | None) -> str:
    return keys.records(namespace) if name is None else keys.records_of(namespace, name)


def _bound(unix_ms: int | None, otherwise: str) -> str | int:
    return otherwise if unix_ms is None else unix_ms
