"""mobilenet against the published network and against convolutions written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from functions.benchmarks import mobilenet

Floats = NDArray[np.float32]

# Howard et al. 2017, tables 6 and 7: million multiply-adds and million parameters
PUBLISHED = [
    (1, 224, 569, 4.2),
    (0.75, 224, 325, 2.6),
    (0.5, 224, 149, 1.3),
    (0.25, 224, 41, 0.5),
    (1, 192, 418, 4.2),
    (1, 160, 290, 4.2),
    (1, 128, 186, 4.2),
]


@pytest.mark.parametrize(("alpha", "resolution", "mult_adds", "parameters"), PUBLISHED)
def test_work_and_size_are_the_published_ones(alpha: float, resolution: int, mult_adds: int, parameters: float) -> None:
    result = mobilenet.main({"alpha": alpha, "resolution": resolution})
    assert round(result["mult_adds"] / 1e6) == pytest.approx(mult_adds, abs=1)
    assert round(result["parameters"] / 1e6, 1) == parameters


def test_layers_have_the_published_shapes() -> None:
    layers = mobilenet.main({})["layers"]
    shapes = [tuple(shape) for name, shape in layers if name in ("conv", "pointwise")]
    sides = [112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7]
    channels = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    assert shapes == [(c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert layers[-2:] == [["average pool", [1024]], ["classifier", [1000]]]
    assert len(layers) == 1 + 13 * 2 + 2


def test_the_answer_follows_from_the_seed() -> None:
    small = {"alpha": 0.25, "resolution": 64}
    first = mobilenet.main(small)
    assert mobilenet.main(small | {"seed": 2})["sha256"] != first["sha256"], "also where a model was kept"
    again = mobilenet.main(small)
    assert (again["sha256"], again["top5"]) == (first["sha256"], first["top5"])
    assert first["probability_sum"] == pytest.approx(1, abs=1e-5)
    chances = [chance for _, chance in first["top5"]]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 2 / 1000, "the activations have not died on the way"


def naive(x: Floats, kernel: Floats, stride: int) -> NDArray[np.float64]:
    """A full convolution, number by number, with TensorFlow's SAME padding; kernel (out, in, 3, 3)."""
    _, rows, columns = x.shape
    out = np.zeros((len(kernel), -(-rows // stride), -(-columns // stride)))
    before = [max((-(-side // stride) - 1) * stride + 3 - side, 0) // 2 for side in (rows, columns)]
    for o, r, c in np.ndindex(*out.shape):
        for channel, i, j in np.ndindex(*kernel.shape[1:]):
            y, z = r * stride + i - before[0], c * stride + j - before[1]
            if 0 <= y < rows and 0 <= z < columns:
                out[o, r, c] += float(x[channel, y, z]) * float(kernel[o, channel, i, j])
    return out


def drawn(*shape: int) -> Floats:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
def test_depthwise_and_full_convolutions_against_loops(stride: int, size: tuple[int, int]) -> None:
    x, kernel = drawn(3, *size), drawn(3, 3, 3)
    apart = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        apart[channel, channel] = kernel[channel]
    assert mobilenet.depthwise(x, kernel, stride) == pytest.approx(naive(x, apart, stride), abs=1e-5)
    whole = drawn(4, 3, 3, 3)
    assert mobilenet.full(x, whole, stride) == pytest.approx(naive(x, whole, stride), abs=1e-5)


def test_pointwise_against_a_loop() -> None:
    x, kernel = drawn(3, 4, 5), drawn(2, 3)
    middle = np.zeros((2, 3, 3, 3), np.float32)
    middle[:, :, 1, 1] = kernel
    assert mobilenet.pointwise(x, kernel) == pytest.approx(naive(x, middle, 1), abs=1e-5)


def test_a_container_keeps_one_model() -> None:
    model = mobilenet.network(0.25, 1)
    assert mobilenet.network(0.25, 1) is model
    assert mobilenet.network(0.25, 2) is not model
    assert mobilenet.network(0.25, 1) is not model


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"resolution": 100}, "mobilenet: resolution is 100; give a multiple of 32"),
        ({"resolution": 1024}, "mobilenet: resolution is 1024; give a whole number of 32 to 512"),
        ({"alpha": 0.3}, "mobilenet: alpha is 0.3; give 0.25, 0.5, 0.75 or 1"),
        ({"alpha": True}, "mobilenet: alpha is True;"),
        ({"alpha": [1]}, "mobilenet: alpha is [1];"),
    ],
)
def test_bad_arguments_are_told(arguments: dict[str, Any], text: str) -> None:
    result = mobilenet.main(arguments)
    assert list(result) == ["error"]
    assert result["error"].startswith(text)
