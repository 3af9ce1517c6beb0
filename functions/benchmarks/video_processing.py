"""video_processing: decodes a video, takes its colour away frame by frame, and encodes it again, with FFmpeg by PyAV.

Arguments: `width` and `height` (even, default 320 x 240), `frames` (default 60), `codec` ("mpeg4", "mpeg1video",
"mjpeg" or "libx264"; default mpeg4), `seed`. The video is made first, in memory: a box that moves over a colour
gradient. Answers with what the encoded output says of itself when it is decoded again.
"""

from __future__ import annotations

import io
import random
import time
from fractions import Fraction

import av

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

CODECS = ("mpeg4", "mpeg1video", "mjpeg", "libx264")
PIXELS = {"mjpeg": "yuvj420p"}  # what a codec takes; else yuv420p
CONTAINER = "matroska"  # holds each of them
FRAMES_PER_S = 25
GREY = 128  # chroma without colour
SAMPLE = 16  # pixels; a frame is shrunk to a square of it to take its means


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def converted(frame: av.VideoFrame, **wanted: Any) -> av.VideoFrame:
    """The frame in another size or pixel format, by one thread: a call has one core, and threads would only wait for
    each other. An older PyAV has no such argument and starts none."""
    try:
        return frame.reformat(**wanted, threads=1)
    except TypeError:
        return frame.reformat(**wanted)


def scene(width: int, height: int, frames: int, seed: int) -> Iterator[av.VideoFrame]:
    """A red box that moves over a gradient from blue to green, in RGB."""
    rng = random.Random(seed)
    side = max(2, min(width, height) // 4)
    x, y = rng.randrange(width), rng.randrange(height)
    step_x, step_y = rng.randrange(1, 6), rng.randrange(1, 6)
    ground = [
        bytes(v for i in range(width) for v in (0, 255 * i // width, 255 - 255 * row // height))
        for row in range(height)
    ]
    box = bytes((220, 30, 30)) * side
    for number in range(frames):
        left = (x + number * step_x) % max(1, width - side)
        top = (y + number * step_y) % max(1, height - side)
        rows = list(ground)
        for row in range(top, min(top + side, height)):
            rows[row] = ground[row][: 3 * left] + box + ground[row][3 * (left + side) :]
        frame = av.VideoFrame(width, height, "rgb24")
        padding = bytes(frame.planes[0].line_size - 3 * width)
        frame.planes[0].update(b"".join(line + padding for line in rows))
        yield frame


def encode(frames: Iterable[av.VideoFrame], width: int, height: int, codec: str) -> bytes:
    """The frames as a video of 25 frames a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=CONTAINER) as container:
        stream: Any = container.add_stream(codec, rate=FRAMES_PER_S)  # of video, as the codec is
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1  # one call, one core
        for number, frame in enumerate(frames):
            fitting = converted(frame, format=stream.pix_fmt)
            fitting.pts, fitting.time_base = number, Fraction(1, FRAMES_PER_S)
            container.mux(stream.encode(fitting))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode(video: bytes) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(video), "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)


def greyscale(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without its colour; its brightness stays."""
    return converted(converted(frame, format="gray"), format=frame.format.name)


class Facts:
    """What is seen of a video while its frames pass."""

    def __init__(self) -> None:
        self._frames = self._width = self._height = 0
        self._luma = self._colour = 0.0

    def watch(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            self._frames, self._width, self._height = self._frames + 1, frame.width, frame.height
            small = converted(frame, width=SAMPLE, height=SAMPLE, format="yuv444p", interpolation="AREA")
            self._luma += mean_distance(small.planes[0], 0)
            self._colour += (mean_distance(small.planes[1], GREY) + mean_distance(small.planes[2], GREY)) / 2
            yield frame

    def told(self, video: bytes) -> dict[str, Any]:
        """`colour` is the mean distance of the chroma from grey: 0 where there is none, at most 128."""
        return {
            "frames": self._frames,
            "width": self._width,
            "height": self._height,
            "bytes": len(video),
            "mean_luma": round(self._luma / max(self._frames, 1), 3),
            "colour": round(self._colour / max(self._frames, 1), 3),
        }


def mean_distance(plane: Any, zero: int) -> float:
    """Mean distance from `zero` of a plane's values; what pads its lines is left out."""
    data, step = bytes(plane), plane.line_size
    lines = [data[row * step : row * step + plane.width] for row in range(plane.height)]
    return sum(abs(value - zero) for line in lines for value in line) / sum(map(len, lines))


def process(video: bytes, width: int, height: int, codec: str) -> tuple[bytes, dict[str, Any]]:
    """The video without colour, and what was seen of the one that came."""
    seen = Facts()
    result = encode(map(greyscale, seen.watch(decode(video))), width, height, codec)
    return result, seen.told(video)


def facts(video: bytes) -> dict[str, Any]:
    seen = Facts()
    for _ in seen.watch(decode(video)):
        pass
    return seen.told(video)


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        width = whole(args, "width", 320, 16, 1_280)
        height = whole(args, "height", 240, 16, 720)
        frames = whole(args, "frames", 60, 1, 10_000)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        codec = args.get("codec", CODECS[0])
        if width % 2 or height % 2:
            raise ValueError(f"width and height are {width} and {height}; give even numbers")
        if codec not in CODECS:
            raise ValueError(f"codec is {codec!r}; give one of {', '.join(CODECS)}")
    except ValueError as error:
        return {"error": f"video_processing: {error}"}
    began_s = time.perf_counter()
    source = encode(scene(width, height, frames, seed), width, height, codec)
    made_s = time.perf_counter()
    result, seen = process(source, width, height, codec)
    done_s = time.perf_counter()
    return {
        "codec": codec,
        "source": seen,
        "result": facts(result),
        "make_ms": (made_s - began_s) * 1e3,
        "process_ms": (done_s - made_s) * 1e3,
    }
