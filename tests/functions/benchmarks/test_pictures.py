"""image_process and video_processing: what they encode, decoded again."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from functions.benchmarks import image_process, video_processing

Pixels = NDArray[Any]


def pixels(encoded: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encoded)), dtype=int)


def test_image_operations_pixel_by_pixel() -> None:
    source = image_process.encode(image_process.picture(200, 90, 7), "png")
    before = pixels(source)
    after = {name: pixels(encoded) for name, encoded in image_process.process(source, "png").items()}
    assert before.shape == (90, 200, 3)
    assert np.array_equal(after["flip_left_right"], before[:, ::-1])
    assert np.array_equal(after["flip_top_bottom"], before[::-1])
    assert np.array_equal(after["rotate_90"], np.rot90(before, 1))
    assert np.array_equal(after["rotate_180"], np.rot90(before, 2))
    assert np.array_equal(after["rotate_270"], np.rot90(before, 3))
    # ITU-R 601-2, as Pillow documents it for L
    grey = before @ np.array([299, 587, 114]) / 1000
    assert after["greyscale"].shape == (90, 200)
    assert np.abs(after["greyscale"] - grey).max() <= 1
    assert after["resize"].shape == (58, 128, 3), "in proportion: 128 x 57.6"
    assert after["resize"].mean() == pytest.approx(before.mean(), abs=2)


def roughness(picture: Pixels) -> float:
    return float(np.abs(np.diff(picture, axis=1)).mean())


def test_image_filters_do_what_they_are_called() -> None:
    source = image_process.encode(image_process.picture(120, 120, 2), "png")
    before = pixels(source)
    after = {name: pixels(encoded) for name, encoded in image_process.process(source, "png").items()}
    assert roughness(after["blur"]) < 0.6 * roughness(before) < roughness(after["sharpen"])
    assert after["blur"].mean() == pytest.approx(before.mean(), abs=2)
    assert not np.array_equal(after["contour"], before)


def test_a_blurred_point_is_spread_over_the_kernel() -> None:
    point = Image.new("L", (11, 11))
    point.putpixel((5, 5), 160)
    blurred = np.asarray(dict(image_process.operations(point))["blur"], dtype=int)
    # Pillow's BLUR is the ring of 16 around a 5 x 5 field, a sixteenth each
    expected = np.zeros((11, 11), dtype=int)
    expected[3:8, 3:8] = 10
    expected[4:7, 4:7] = 0
    assert np.array_equal(blurred, expected)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_image_facts_are_those_of_the_pictures(kind: str) -> None:
    result = image_process.main({"width": 96, "height": 64, "format": kind})
    assert (result["source"]["width"], result["source"]["height"], result["source"]["mode"]) == (96, 64, "RGB")
    turned = result["results"]["rotate_90"]
    assert (turned["width"], turned["height"]) == (64, 96)
    assert result["results"]["greyscale"]["mode"] == "L"
    assert result["results"]["resize"]["width"] == 96, "a picture smaller than a thumbnail is not blown up"
    assert len(result["results"]) == 10
    for name in ("flip_left_right", "rotate_180", "blur", "resize"):
        assert result["results"][name]["mean"] == pytest.approx(result["source"]["mean"], abs=2)


def planes(video: bytes) -> list[list[Pixels]]:
    """Y, U and V of each frame, decoded here and now."""
    with av.open(io.BytesIO(video), "r") as container:
        decoded = [frame.reformat(format="yuv420p").to_ndarray() for frame in container.decode(video=0)]
        height = container.streams.video[0].height
    return [[f[:height], f[height : height * 5 // 4], f[height * 5 // 4 :]] for f in decoded]


@pytest.mark.parametrize("codec", video_processing.CODECS)
def test_video_loses_its_colour_and_nothing_else(codec: str) -> None:
    size = (96, 64)
    source = video_processing.encode(video_processing.scene(*size, 12, 3), *size, codec)
    result, seen = video_processing.process(source, *size, codec)
    before, after = planes(source), planes(result)
    assert seen["frames"] == len(before) == len(after) == 12
    assert after[0][0].shape == (64, 96)
    for (y, u, v), (grey_y, grey_u, grey_v) in zip(before, after, strict=True):
        assert np.abs(grey_u.astype(int) - 128).mean() < 1
        assert np.abs(grey_v.astype(int) - 128).mean() < 1
        assert np.abs(u.astype(int) - 128).mean() > 10, "the source has colour to lose"
        assert np.abs(v.astype(int) - 128).mean() > 10
        assert np.abs(grey_y.astype(int) - y).mean() < 4, "what an encoder loses"
    with av.open(io.BytesIO(result), "r") as container:
        stream = container.streams.video[0]
        assert stream.average_rate == video_processing.FRAMES_PER_S
        assert stream.codec_context.name.startswith(codec.removeprefix("lib").replace("x264", "h264"))


def test_the_box_of_the_video_moves() -> None:
    frames = [f.to_ndarray() for f in video_processing.scene(64, 48, 3, 1)]
    red = [np.argwhere(np.all(frame == (220, 30, 30), axis=2)) for frame in frames]
    assert [len(places) for places in red] == [12 * 12] * 3
    assert not np.array_equal(red[0], red[1])


def test_video_facts_are_those_of_the_videos() -> None:
    result = video_processing.main({"width": 64, "height": 48, "frames": 7})
    for part in ("source", "result"):
        assert (result[part]["frames"], result[part]["width"], result[part]["height"]) == (7, 64, 48)
        assert result[part]["bytes"] > 100
    assert result["source"]["colour"] > 10
    assert result["result"]["colour"] < 1
    assert result["result"]["mean_luma"] == pytest.approx(result["source"]["mean_luma"], abs=2)
    again = video_processing.main({"width": 64, "height": 48, "frames": 7})
    assert again["source"] == result["source"]


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (image_process, {"width": 7}, "image_process: width is 7; give a whole number of 8 to 4096"),
    (image_process, {"format": "gif"}, "image_process: format is 'gif'; give jpeg or png"),
    (video_processing, {"width": 33}, "video_processing: width and height are 33 and 240; give even numbers"),
    (video_processing, {"codec": "h266"}, "video_processing: codec is 'h266'; give one of mpeg4, mpeg1video"),
    (video_processing, {"frames": "many"}, "video_processing: frames is 'many';"),
]


@pytest.mark.parametrize(("module", "arguments", "text"), BAD)
def test_bad_arguments_are_told(module: Any, arguments: dict[str, Any], text: str) -> None:
    result = module.main(arguments)
    assert list(result) == ["error"]
    assert result["error"].startswith(text)
