"""chameleon, pyaes and lr_review: what they make, read back."""

from __future__ import annotations

import hashlib
import itertools
import math
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from functions.benchmarks import chameleon, lr_review, pyaes

XHTML = "{http://www.w3.org/1999/xhtml}"


def test_chameleon_renders_every_cell() -> None:
    table = chameleon.table_of(17, 5, 3)
    page = ET.fromstring(chameleon.render(table))
    rows = page.findall(f"{XHTML}tr")
    assert page.tag == f"{XHTML}table"
    read = [[(cell.get("class"), cell.text) for cell in row.findall(f"{XHTML}td/{XHTML}span")] for row in rows]
    assert read == [[(name, str(value)) for name, value in row.items()] for row in table]


def test_chameleon_escapes_what_it_renders() -> None:
    assert "&lt;b&gt;" in chameleon.render([{"c0": "<b>"}])  # type: ignore[dict-item]


def test_chameleon_answers_with_figures_of_its_page() -> None:
    result = chameleon.main({"rows": 30, "columns": 4, "seed": 9})
    table = chameleon.table_of(30, 4, 9)
    page = chameleon.render(table)
    assert (result["rows"], result["columns"], result["characters"]) == (30, 4, len(page))
    assert result["page_sha256"] == hashlib.sha256(page.encode()).hexdigest()
    cells = [int(span.text or "") for span in ET.fromstring(page).iter(f"{XHTML}span")]
    assert len(cells) == 120
    assert result["cell_sum"] == sum(cells)


# NIST SP 800-38A, F.5.1, F.5.3 and F.5.5: the same counter and plaintext under keys of three lengths
NIST_COUNTER = 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF
NIST_PLAINTEXT = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172a" "ae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52ef" "f69f2445df4f9b17ad2b417be66c3710"
)  # fmt: skip
NIST = {
    "2b7e151628aed2a6abf7158809cf4f3c": (
        "874d6191b620e3261bef6864990db6ce" "9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab" "1e031dda2fbe03d1792170a0f3009cee"
    ),
    "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": (
        "1abc932417521ca24f2b0459fe7e6e0b" "090339ec0aa6faefd5ccc2c6f4ce8e94"
        "1e36b26bd1ebc670d1bd1d665620abf7" "4f78a7f6d29809585a97daec58c6b050"
    ),
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": (
        "601ec313775789a5b7a7f504bbf3d228" "f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988d" "dfc9c58db67aada613c2dd08457941a6"
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", NIST)
def test_pyaes_agrees_with_nist(key: str) -> None:
    ciphertext = pyaes.crypt(bytes.fromhex(key), NIST_COUNTER, NIST_PLAINTEXT)
    assert ciphertext.hex() == NIST[key]
    assert pyaes.crypt(bytes.fromhex(key), NIST_COUNTER, ciphertext) == NIST_PLAINTEXT


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_pyaes_gets_its_message_back(bits: int) -> None:
    result = pyaes.main({"length": 333, "iterations": 3, "key_bits": bits})
    assert result["round_trips"] == result["iterations"] == 3
    assert result["length"] == 333


def test_pyaes_hides_by_key_and_message() -> None:
    digests = {pyaes.main({"length": 64, "seed": seed})["ciphertext_sha256"] for seed in (1, 2, 1)}
    assert len(digests) == 2


SMALL = {"reviews": 400, "epochs": 60}


def test_lr_review_learns_what_it_has_not_seen() -> None:
    results = [lr_review.main(SMALL | {"seed": seed}) for seed in range(3)]
    for result in results:
        assert (result["reviews"], result["held_out"]) == (400, 100)
        assert result["held_out_accuracy"] > 0.8
        assert result["first_loss"] == pytest.approx(math.log(2)), "nothing is known before the first epoch"
        assert result["last_loss"] < 0.5
        assert set(result["praise"]) <= set(lr_review.PRAISE)
        assert set(result["blame"]) <= set(lr_review.BLAME)


def test_lr_review_learns_nothing_from_shuffled_labels() -> None:
    held_out = [lr_review.main(SMALL | {"seed": s, "shuffle_labels": True})["held_out_accuracy"] for s in range(5)]
    # 500 held-out reviews in all: chance is 0.5 with a deviation of 0.022
    assert abs(sum(held_out) / len(held_out) - 0.5) < 0.1


def test_lr_review_descends_the_gradient_of_its_loss() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 6)), (rng.random(40) > 0.4).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights, bias, losses = lr_review.train(x, y, 1)
    for i in range(6):  # after one step from 0 the weights are minus the rate times the slope, as differences tell it
        nudge = np.eye(6)[i] * 1e-6
        up, down = (lr_review.log_loss(lr_review.probability(x, sign * nudge, 0.0), y) for sign in (1, -1))
        assert weights[i] == pytest.approx(-lr_review.LEARNING_RATE * (up - down) / 2e-6, rel=1e-4, abs=1e-8)
    assert bias == pytest.approx(lr_review.LEARNING_RATE * (y.mean() - 0.5))
    _, _, losses = lr_review.train(x, y, 200)
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_tf_idf_by_hand() -> None:
    vectoriser = lr_review.TfIdf().fit(["a b b", "A c."])
    assert vectoriser.vocabulary == {"a": 0, "b": 1, "c": 2}
    rare = math.log(3 / 2) + 1
    length = math.hypot(1, 2 * rare)
    (row, empty) = vectoriser.transform(["b a, b unseen", "unseen"])
    assert row == pytest.approx([1 / length, 2 * rare / length, 0])
    assert empty == pytest.approx([0, 0, 0])


def test_reviews_are_balanced_and_follow_from_the_seed() -> None:
    texts, labels = lr_review.generate(100, 12, 1)
    assert sum(labels) == 50
    assert all(len(text.split()) == 12 for text in texts)
    assert lr_review.generate(100, 12, 1) == (texts, labels)
    assert lr_review.generate(100, 12, 2)[0] != texts


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (chameleon, {"rows": 0}, "chameleon: rows is 0; give a whole number of 1 to 50000"),
    (chameleon, {"rows": 50_000, "columns": 100}, "chameleon: rows x columns is 5000000; at most 500000 cells"),
    (pyaes, {"length": None}, "pyaes: length is None;"),
    (pyaes, {"key_bits": 130}, "pyaes: key_bits is 130; give 128, 192 or 256"),
    (lr_review, {"reviews": 7}, "lr_review: reviews is 7;"),
    (lr_review, {"shuffle_labels": 1}, "lr_review: shuffle_labels is 1; give true or false"),
]


@pytest.mark.parametrize(("module", "arguments", "text"), BAD)
def test_bad_arguments_are_told(module: Any, arguments: dict[str, Any], text: str) -> None:
    result = module.main(arguments)
    assert list(result) == ["error"]
    assert result["error"].startswith(text)
