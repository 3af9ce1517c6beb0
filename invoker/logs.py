"""An activation's log: what its container writes to stdout and stderr, up to the sentinels.

A runtime ends the output of a run by one sentinel line on each stream, or says in its answer that it has written all
there is (`finish`). Lines are stamped when they are read. The limit counts bytes of finished log lines, stamps
included, as OpenWhisk's invoker counts those of Docker's log file; what goes beyond is read and dropped, so that a
container never blocks on a full pipe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

SENTINEL = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
MAX_LINE_BYTES = 64 << 10  # a longer line is cut into several
QUIET_S = 2.0  # no data for so long: the sentinels are not coming
MIN_WAIT_S = 10.0
WAIT_S_PER_MB = 2.0
# Of an image from which no sentinel has come yet: no data for so long is all there is, at first and once it is known.
UNKNOWN_QUIET_S = 0.2
SILENT_QUIET_S = 0.02
UNKNOWN_WAIT_S = 1.0
SILENT_AFTER = 3  # runs without

INCOMPLETE = "There was an issue while collecting your logs. Data might be missing."
DEVELOPER_ERROR = "The action did not initialize or run as expected. Log data might be missing."
TRUNCATED = "Logs were truncated because the total bytes size exceeds the limit of {limit} bytes."

_STREAMS = ("stdout", "stderr")


def stamp(unix_ms: int) -> str:
    """ISO time of a log line, padded to the 30 characters that OpenWhisk's clients cut off."""
    at = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return (at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z").ljust(30)


class SentinelHabit:
    """Whether the containers of an image end a run's output by sentinels, which an image of anyone's may not do. It is
    learned from the first one that comes; until then a short quiet is the end of a log."""

    def __init__(self) -> None:
        self.seen = False
        self._runs_without = 0

    @property
    def quiet_s(self) -> float:
        """How long without data is the end."""
        return SILENT_QUIET_S if self._runs_without >= SILENT_AFTER else UNKNOWN_QUIET_S

    def missed(self) -> None:
        """A run ended without one."""
        self._runs_without += 1


class LogCollector:
    """Collects both streams of one container, one activation at a time. `now_unix_ms` stamps lines. `habit` None = the
    container is known to write sentinels."""

    def __init__(self, now_unix_ms: Callable[[], int], habit: SentinelHabit | None = None) -> None:
        self._now_unix_ms = now_unix_ms
        self._habit = habit
        self._partial = [b"", b""]
        self._sentinels = [0, 0]
        self._ended = [False, False]
        self._lines: list[str] = []
        self._bytes = 0
        self._limit_bytes = 0
        self._truncated = False
        self._progress: asyncio.Event | None = None

    def begin(self, limit_mb: int) -> None:
        """A new activation: its lines start here. 0 MB collects none."""
        self._lines = []
        self._bytes = 0
        self._limit_bytes = limit_mb << 20
        self._truncated = False
        self._sentinels = [0, 0]

    @property
    def complete(self) -> bool:
        """Both sentinels of this activation have come."""
        return self._sentinels[0] > 0 and self._sentinels[1] > 0

    @property
    def ended(self) -> bool:
        """Nothing more can come: both streams are complete or closed."""
        return all(n > 0 or e for n, e in zip(self._sentinels, self._ended, strict=True))

    def feed(self, stream: int, data: bytes) -> None:
        """Take what was read from a stream (0 = stdout, 1 = stderr)."""
        data = self._partial[stream] + data if self._partial[stream] else data
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(stream, line)
        while len(rest) >= MAX_LINE_BYTES:
            self._add(stream, rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._partial[stream] = rest
        if self._progress is not None:
            self._progress.set()

    def finish(self) -> None:
        """All of this activation's log has been fed, and no sentinels follow."""
        for stream in (0, 1):
            if self._partial[stream]:
                self._line(stream, self._partial[stream])
                self._partial[stream] = b""
            self._sentinels[stream] += 1

    def end(self, stream: int) -> None:
        """The stream is closed."""
        if self._partial[stream]:
            self._line(stream, self._partial[stream])
            self._partial[stream] = b""
        self._ended[stream] = True
        if self._progress is not None:
            self._progress.set()

    def _line(self, stream: int, line: bytes) -> None:
        if line.endswith(SENTINEL):
            self._sentinels[stream] += 1
            if self._habit is not None:
                self._habit.seen = True
            line = line[: -len(SENTINEL)]  # an action's last line may lack its newline
            if not line:
                return
        self._add(stream, line)

    def _add(self, stream: int, line: bytes) -> None:
        if self._limit_bytes == 0 or self._truncated:
            return
        text = f"{stamp(self._now_unix_ms())} {_STREAMS[stream]}: {line.decode('utf-8', 'replace')}"
        size = len(text) + 1 if text.isascii() else len(text.encode()) + 1
        if self._bytes + size > self._limit_bytes:
            self._truncated = True
            return
        self._bytes += size
        self._lines.append(text)

    async def wait(self, limit_mb: int) -> bool:
        """Wait for both sentinels or the end of both streams: at most 2 s without data, and 2 s per MB of limit in
        all (at least 10 s). Where none may ever come, at most 1 s and until a short quiet: what came by then is
        complete. Returns `complete`."""
        habit = self._habit
        if habit is not None and not habit.seen:
            await self._wait(UNKNOWN_WAIT_S, habit.quiet_s, until_seen=habit)
            if not habit.seen:
                habit.missed()
                self.finish()
                return True
        await self._wait(max(MIN_WAIT_S, WAIT_S_PER_MB * limit_mb), QUIET_S)
        return self.complete

    async def _wait(self, most_s: float, quiet_s: float, until_seen: SentinelHabit | None = None) -> None:
        progress = self._progress = asyncio.Event()
        try:
            async with asyncio.timeout(most_s):
                while not self.ended and not (until_seen is not None and until_seen.seen):
                    progress.clear()
                    async with asyncio.timeout(quiet_s):
                        await progress.wait()
        except TimeoutError:
            return
        finally:
            self._progress = None

    def take(self, warning: str = "") -> list[str]:
        """The activation's lines. `warning` and the note of a truncation follow as stderr lines."""
        lines, self._lines = self._lines, []
        if self._limit_bytes == 0:
            return []
        notes = [TRUNCATED.format(limit=self._limit_bytes)] if self._truncated else []
        notes += [warning] if warning else []
        return lines + [f"{stamp(self._now_unix_ms())} stderr: {note}" for note in notes]
