"""mobilenet: the forward pass of MobileNet v1 over one image: the published layers, with random weights from a seed.

Arguments: `resolution` (pixels a side, a multiple of 32; default 224), `alpha` (the width multiplier, 0.25, 0.5, 0.75
or 1; default 1), `seed`. The defaults are the network of the paper (Howard et al. 2017, table 1): 569 million
multiply-adds and 4.2 million parameters. Numpy only.

Every convolution but the first is separable: a 3 x 3 filter for each channel, then a 1 x 1 convolution over the
channels. Batch normalisation is folded into a scale and a shift, as for inference; ReLU6 after each. The weights are
made once a container and kept, as a model that was loaded: He's deviation, so that the activations neither die nor
grow. With random weights the classes mean nothing; the work is the same.
"""

from __future__ import annotations

import hashlib
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one call, one core; before numpy is loaded

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALPHAS = (0.25, 0.5, 0.75, 1.0)
FIRST_CHANNELS = 32
# (channels out, stride) of the thirteen separable convolutions at alpha 1
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
CLASSES = 1_000
KERNEL = 3

_kept: dict[tuple[float, int], MobileNet] = {}


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def padded(x: np.ndarray, stride: int) -> np.ndarray:
    """Zeros around (channels, height, width) so that a 3 x 3 filter gives ceil(side / stride) a side; where one side
    gets more, the last, as TensorFlow's SAME does."""
    before = []
    for side in x.shape[1:]:
        total = max((-(-side // stride) - 1) * stride + KERNEL - side, 0)
        before.append((total // 2, total - total // 2))
    return np.pad(x, ((0, 0), *before))


def taps(x: np.ndarray, stride: int) -> list[np.ndarray]:
    """The nine shifted and strided views under a 3 x 3 filter, row by row."""
    p = padded(x, stride)
    rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    return [
        p[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(KERNEL)
        for j in range(KERNEL)
    ]


def depthwise(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Each channel of (channels, height, width) under its own filter; kernel is (channels, 3, 3)."""
    views = taps(x, stride)
    weights = kernel.reshape(len(kernel), -1)
    out: np.ndarray = views[0] * weights[:, 0, None, None]
    for tap in range(1, len(views)):
        out += views[tap] * weights[:, tap, None, None]
    return out


def pointwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 1 x 1 convolution; kernel is (channels out, channels in)."""
    channels, height, width = x.shape
    mixed: np.ndarray = kernel @ x.reshape(channels, height * width)
    return mixed.reshape(-1, height, width)


def full(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A 3 x 3 convolution over all channels; kernel is (channels out, channels in, 3, 3)."""
    columns = np.stack(taps(x, stride), axis=1)  # (channels in, 9, height, width)
    channels, _, height, width = columns.shape
    flat = columns.reshape(channels * KERNEL * KERNEL, height * width)
    out: np.ndarray = kernel.reshape(len(kernel), -1) @ flat
    return out.reshape(-1, height, width)


def activated(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Folded batch normalisation and ReLU6, in place."""
    x *= scale[:, None, None]
    x += shift[:, None, None]
    return np.clip(x, 0, 6, out=x)


class MobileNet:
    """The weights, in single precision."""

    def __init__(self, alpha: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rng = rng
        channels = round(FIRST_CHANNELS * alpha)
        self.first = self._convolution((channels, 3, KERNEL, KERNEL))
        self.blocks = []
        for out, stride in BLOCKS:
            wide = round(out * alpha)
            self.blocks.append(
                (stride, self._convolution((channels, KERNEL, KERNEL)), self._convolution((wide, channels)))
            )
            channels = wide
        self.classifier = self._normal((CLASSES, channels), channels / 2)
        self.class_bias = np.zeros(CLASSES, np.float32)

    def _normal(self, shape: tuple[int, ...], fan_in: float) -> np.ndarray:
        drawn: np.ndarray = self._rng.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        return drawn

    def _convolution(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kernel, scale and shift."""
        depthwise_fan = KERNEL * KERNEL if len(shape) == 3 else int(np.prod(shape[1:]))
        scale = self._rng.uniform(0.9, 1.1, shape[0]).astype(np.float32)
        shift = self._rng.uniform(0.0, 0.2, shape[0]).astype(np.float32)
        return self._normal(shape, depthwise_fan), scale, shift

    def parameters(self) -> int:
        """Weights, scales and shifts: what training would learn, means and variances folded in."""
        convolutions = [self.first, *(part for _, *parts in self.blocks for part in parts)]
        return sum(a.size for c in convolutions for a in c) + self.classifier.size + self.class_bias.size

    def forward(self, image: np.ndarray) -> tuple[np.ndarray, list[tuple[str, tuple[int, ...]]], int]:
        """`image` is (3, height, width). Returns the classes' probabilities, each layer's output shape, and how many
        multiplications with an addition the convolutions and the classifier took."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        mult_adds = 0

        def done(name: str, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
            nonlocal mult_adds
            mult_adds += kernel.size * x.shape[1] * x.shape[2]
            shapes.append((name, x.shape))
            return x

        kernel, scale, shift = self.first
        x = done("conv", activated(full(image, kernel, 2), scale, shift), kernel)
        for stride, (filters, *norm), (mixing, *mixing_norm) in self.blocks:
            x = done(f"depthwise/{stride}", activated(depthwise(x, filters, stride), *norm), filters)
            x = done("pointwise", activated(pointwise(x, mixing), *mixing_norm), mixing)
        pooled = x.mean(axis=(1, 2))
        shapes.append(("average pool", pooled.shape))
        logits = self.classifier @ pooled + self.class_bias
        mult_adds += self.classifier.size
        shapes.append(("classifier", logits.shape))
        powers = np.exp(logits - logits.max())
        return powers / powers.sum(), shapes, mult_adds


def network(alpha: float, seed: int) -> MobileNet:
    """The model, made at the first call; a container keeps one."""
    if (alpha, seed) not in _kept:
        _kept.clear()
        _kept[alpha, seed] = MobileNet(alpha, seed)
    return _kept[alpha, seed]


def picture(resolution: int, seed: int) -> np.ndarray:
    """(3, resolution, resolution) in -1..1: waves of a seeded direction in each channel, and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:resolution, 0:resolution] / resolution
    waves = [np.sin(2 * np.pi * (rng.uniform(1, 9) * x + rng.uniform(1, 9) * y)) for _ in range(3)]
    image = 0.8 * np.stack(waves) + 0.2 * rng.uniform(-1, 1, (3, resolution, resolution))
    return image.astype(np.float32)


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        resolution = whole(args, "resolution", 224, 32, 512)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        alpha = args.get("alpha", 1)
        if resolution % 32:
            raise ValueError(f"resolution is {resolution}; give a multiple of 32, as 128, 160, 192 or 224")
        if type(alpha) not in (int, float) or alpha not in ALPHAS:
            raise ValueError(f"alpha is {alpha!r}; give 0.25, 0.5, 0.75 or 1")
    except ValueError as error:
        return {"error": f"mobilenet: {error}"}
    began_s = time.perf_counter()
    model = network(float(alpha), seed)
    image = picture(resolution, seed)
    ready_s = time.perf_counter()
    chances, shapes, mult_adds = model.forward(image)
    done_s = time.perf_counter()
    best = np.argsort(-chances)[:5]
    return {
        "resolution": resolution,
        "alpha": alpha,
        "mult_adds": mult_adds,
        "parameters": model.parameters(),
        "layers": [[name, list(shape)] for name, shape in shapes],
        "top5": [[int(i), float(chances[i])] for i in best],
        "probability_sum": float(chances.sum()),
        "sha256": hashlib.sha256(chances.tobytes()).hexdigest(),
        "model_ms": (ready_s - began_s) * 1e3,
        "forward_ms": (done_s - ready_s) * 1e3,
    }
