"""image_process: flips, turns, filters, greys and shrinks a picture with Pillow; each result is encoded again.

Arguments: `width` and `height` (pixels, default 1024 x 768), `format` ("jpeg" or "png", default jpeg), `seed`. The
picture is drawn and encoded first: a colour gradient with shapes at seeded places. Answers with every result's size,
mode, encoded bytes and mean pixel value.
"""

from __future__ import annotations

import io
import random
import time

from PIL import Image, ImageDraw, ImageFilter, ImageStat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FORMATS = ("jpeg", "png")
THUMBNAIL = (128, 128)  # fits into it, in the picture's proportions
SHAPES = 40


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def picture(width: int, height: int, seed: int) -> Image.Image:
    """An RGB picture: red grows to the right, green downwards, blue is noise; ellipses and boxes on top."""
    rng = random.Random(seed)
    right = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    noise = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    image = Image.merge("RGB", (right, down, noise))
    draw = ImageDraw.Draw(image)
    for number in range(SHAPES):
        x, y = rng.randrange(width), rng.randrange(height)
        box = (x, y, x + rng.randrange(1, width // 4 + 2), y + rng.randrange(1, height // 4 + 2))
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour)
    return image


def operations(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """One after the other, so that no more than one result is held."""
    yield "flip_left_right", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "flip_top_bottom", image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    yield "rotate_90", image.transpose(Image.Transpose.ROTATE_90)
    yield "rotate_180", image.transpose(Image.Transpose.ROTATE_180)
    yield "rotate_270", image.transpose(Image.Transpose.ROTATE_270)
    yield "blur", image.filter(ImageFilter.BLUR)
    yield "contour", image.filter(ImageFilter.CONTOUR)
    yield "sharpen", image.filter(ImageFilter.SHARPEN)
    yield "greyscale", image.convert("L")
    small = image.copy()
    small.thumbnail(THUMBNAIL)
    yield "resize", small


def encode(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def process(encoded: bytes, kind: str) -> dict[str, bytes]:
    """Decodes, applies every operation, and encodes what each gives."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        return {name: encode(result, kind) for name, result in operations(image)}


def facts(encoded: bytes) -> dict[str, Any]:
    """What can be said of an encoded picture by decoding it."""
    with Image.open(io.BytesIO(encoded)) as image:
        mean = ImageStat.Stat(image).mean
        return {
            "width": image.width,
            "height": image.height,
            "mode": image.mode,
            "bytes": len(encoded),
            "mean": round(sum(mean) / len(mean), 3),
        }


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        width = whole(args, "width", 1024, 8, 4_096)
        height = whole(args, "height", 768, 8, 4_096)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        kind = args.get("format", FORMATS[0])
        if kind not in FORMATS:
            raise ValueError(f"format is {kind!r}; give jpeg or png")
    except ValueError as error:
        return {"error": f"image_process: {error}"}
    source = encode(picture(width, height, seed), kind)
    began_s = time.perf_counter()
    results = process(source, kind)
    process_s = time.perf_counter() - began_s
    return {
        "source": facts(source),
        "results": {name: facts(encoded) for name, encoded in results.items()},
        "process_ms": process_s * 1e3,
    }
