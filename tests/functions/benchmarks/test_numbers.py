"""float_op, matmult and linpack against what mathematics says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from functions.benchmarks import float_op, linpack, matmult


@pytest.mark.parametrize("n", [1, 2, 10_000])
def test_float_op_adds_up_what_closed_forms_say(n: int) -> None:
    result = float_op.main({"n": n})
    # sum of sin i and cos i over i < n: sin(n/2) / sin(1/2) times sin and cos of (n - 1)/2 (Lagrange)
    scale = math.sin(n / 2) / math.sin(0.5)
    assert result["sum_sin"] == pytest.approx(scale * math.sin((n - 1) / 2), abs=1e-8)
    assert result["sum_cos"] == pytest.approx(scale * math.cos((n - 1) / 2), abs=1e-8)
    assert result["sum_sqrt"] == pytest.approx(math.fsum(math.sqrt(i) for i in range(n)), rel=1e-12)


def test_matmult_agrees_with_a_product_by_hand() -> None:
    a, b = matmult.matrices(13, 5)
    rows, columns = a.astype(int).tolist(), b.T.astype(int).tolist()
    product = [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in rows]
    result = matmult.main({"n": 13, "seed": 5})
    assert result["checksum"] == sum(map(sum, product))
    assert result["trace"] == sum(product[i][i] for i in range(13))
    assert result["corner"] == product[12][12]


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (64, 1), (300, 2)])
def test_matmult_checksum_is_column_sums_times_row_sums(n: int, seed: int) -> None:
    a, b = matmult.matrices(n, seed)
    assert np.all(np.abs(a) <= 9)
    result = matmult.main({"n": n, "seed": seed})
    assert result["checksum"] == int(a.sum(axis=0) @ b.sum(axis=1))
    assert result["trace"] == int((a * b.T).sum())
    assert result["n"] == n
    assert result["mflops"] > 0


def test_matmult_of_other_seeds_is_another() -> None:
    assert matmult.main({"n": 50, "seed": 1})["checksum"] != matmult.main({"n": 50, "seed": 2})["checksum"]


@pytest.mark.parametrize("n", [1, 2, 100, 400])
def test_linpack_solves(n: int) -> None:
    result = linpack.main({"n": n})
    assert 0 <= result["residual"] < 16
    assert result["max_error"] < 1e-8, "the solution is 1 everywhere"
    assert result["mflops"] > 0


def test_a_wrong_solution_has_a_large_residual() -> None:
    a = np.random.default_rng(1).uniform(-0.5, 0.5, (50, 50))
    b = a.sum(axis=1)
    right = np.linalg.solve(a, b)
    assert linpack.scaled_residual(a, right, b) < 16
    wrong = right.copy()
    wrong[7] += 1e-6
    assert linpack.scaled_residual(a, wrong, b) > 1e4


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (float_op, {"n": 0}, "float_op: n is 0; give a whole number of 1 to 100000000"),
    (float_op, {"n": 1.5}, "float_op: n is 1.5;"),
    (matmult, {"n": "12"}, "matmult: n is '12';"),
    (matmult, {"n": True}, "matmult: n is True;"),
    (linpack, {"n": 4_001}, "linpack: n is 4001; give a whole number of 1 to 4000"),
    (linpack, {"seed": -1}, "linpack: seed is -1;"),
]


@pytest.mark.parametrize(("module", "arguments", "text"), BAD)
def test_bad_arguments_are_told(module: Any, arguments: dict[str, Any], text: str) -> None:
    result = module.main(arguments)
    assert list(result) == ["error"]
    assert result["error"].startswith(text)
