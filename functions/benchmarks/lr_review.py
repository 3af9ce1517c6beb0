"""lr_review: learns by logistic regression which reviews are good ones, and predicts reviews it has not seen.

Arguments: `reviews` (default 1000; every fourth is held out), `words` (of a review, default 40), `epochs` (of gradient
descent, default 100), `shuffle_labels` (default false: true takes the meaning from the labels, and accuracy falls to
chance), `seed`. The reviews are generated: mostly neutral words of falling frequency, a few that praise or blame and
are used by either kind, more often by the right one. Numpy only: TF-IDF, full-batch gradient descent with L2.
"""

from __future__ import annotations

import os
import random
import re
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one call, one core; before numpy is loaded

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRAISE = (
    "excellent great lovely perfect superb tasty crisp wonderful favourite fresh reliable sturdy delicious bargain "
    "recommend charming quick generous bright impressive"
).split()
BLAME = (
    "awful broken bland stale useless poor terrible refund leaking waste bitter noisy flimsy rude disappointing slow "
    "overpriced mouldy faulty dreadful"
).split()
NEUTRAL = 1_500  # words without an opinion
OPINION_SHARE = 0.15  # of a review's words
RIGHT_SHARE = 0.8  # of the opinions that fit the review's label
HELD_OUT = 4  # one in so many
LEARNING_RATE = 4.0  # stable: rows have length 1, so the loss bends by at most (1 + 1) / 4
L2 = 1e-4
WORD = re.compile(r"[a-z]+")


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def neutral_words(rng: random.Random) -> list[str]:
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randrange(1, 4))) for _ in range(NEUTRAL)]


def generate(reviews: int, words: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts and their labels (1 = a good review), as many of each."""
    rng = random.Random(seed)
    vocabulary = neutral_words(rng)
    frequency = [1 / rank for rank in range(1, NEUTRAL + 1)]
    texts, labels = [], [number % 2 for number in range(reviews)]
    rng.shuffle(labels)
    for label in labels:
        chosen = rng.choices(vocabulary, frequency, k=words)
        for at in range(words):
            if rng.random() < OPINION_SHARE:
                right = rng.random() < RIGHT_SHARE
                chosen[at] = rng.choice(PRAISE if (label == 1) == right else BLAME)
        texts.append(" ".join(chosen).capitalize() + ".")
    return texts, labels


class TfIdf:
    """Term frequency times inverse document frequency, rows scaled to length 1; smoothed as scikit-learn does it."""

    def fit(self, texts: list[str]) -> TfIdf:
        tokens = [WORD.findall(text.lower()) for text in texts]
        self.vocabulary = {word: i for i, word in enumerate(sorted({word for line in tokens for word in line}))}
        documents = (self._counts(tokens) > 0).sum(axis=0)
        self.idf = np.log((1 + len(texts)) / (1 + documents)) + 1
        return self

    def transform(self, texts: list[str]) -> np.ndarray:
        weights = self._counts([WORD.findall(text.lower()) for text in texts]) * self.idf
        lengths = np.linalg.norm(weights, axis=1, keepdims=True)
        scaled: np.ndarray = weights / np.where(lengths > 0, lengths, 1)
        return scaled

    def _counts(self, tokens: list[list[str]]) -> np.ndarray:
        counts = np.zeros((len(tokens), len(self.vocabulary)))
        for row, line in enumerate(tokens):
            for word in line:
                column = self.vocabulary.get(word)
                if column is not None:
                    counts[row, column] += 1
        return counts


def probability(x: np.ndarray, weights: np.ndarray, bias: float) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-np.clip(x @ weights + bias, -30, 30)))
    return chances


def log_loss(chances: np.ndarray, y: np.ndarray) -> float:
    return float(-np.mean(y * np.log(chances) + (1 - y) * np.log(1 - chances)))


def train(x: np.ndarray, y: np.ndarray, epochs: int) -> tuple[np.ndarray, float, list[float]]:
    """Weights, bias, and the loss before each epoch and after the last."""
    weights, bias = np.zeros(x.shape[1]), 0.0
    losses = []
    for _ in range(epochs):
        chances = probability(x, weights, bias)
        losses.append(log_loss(chances, y))
        wrong = (chances - y) / len(y)
        weights -= LEARNING_RATE * (x.T @ wrong + L2 * weights)
        bias -= LEARNING_RATE * float(wrong.sum())
    losses.append(log_loss(probability(x, weights, bias), y))
    return weights, bias, losses


def accuracy(x: np.ndarray, y: np.ndarray, weights: np.ndarray, bias: float) -> float:
    return float(np.mean((probability(x, weights, bias) > 0.5) == (y > 0.5)))


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        reviews = whole(args, "reviews", 1_000, 2 * HELD_OUT, 5_000)
        words = whole(args, "words", 40, 1, 200)
        epochs = whole(args, "epochs", 100, 1, 10_000)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        shuffled = args.get("shuffle_labels", False)
        if type(shuffled) is not bool:
            raise ValueError(f"shuffle_labels is {shuffled!r}; give true or false")
    except ValueError as error:
        return {"error": f"lr_review: {error}"}
    texts, labels = generate(reviews, words, seed)
    if shuffled:
        random.Random(seed + 1).shuffle(labels)
    began_s = time.perf_counter()
    y = np.array(labels, dtype=float)
    held_out = np.arange(reviews) % HELD_OUT == HELD_OUT - 1
    vectoriser = TfIdf().fit([text for text, out in zip(texts, held_out, strict=True) if not out])
    x = vectoriser.transform(texts)
    weights, bias, losses = train(x[~held_out], y[~held_out], epochs)
    words_by_weight = [sorted(vectoriser.vocabulary)[i] for i in np.argsort(weights)]
    return {
        "reviews": reviews,
        "held_out": int(held_out.sum()),
        "vocabulary": len(vectoriser.vocabulary),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "training_accuracy": accuracy(x[~held_out], y[~held_out], weights, bias),
        "held_out_accuracy": accuracy(x[held_out], y[held_out], weights, bias),
        "blame": words_by_weight[:5],
        "praise": words_by_weight[:-6:-1],
        "learn_ms": (time.perf_counter() - began_s) * 1e3,
    }
