from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generated.core_sizes import MAX_CORES, MIN_CORES, change_flow, draw_cores, draw_shrink, draw_walk
from fallow.traces.generated.published import CORE_CHANGE_WEIGHT


def test_the_flow_is_symmetric_and_has_the_published_sizes() -> None:
    flow = change_flow()
    assert flow.shape == (31, 31)
    assert flow.sum() == pytest.approx(1.0)
    assert (flow == flow.T).all()
    assert (np.diag(flow) == 0).all()
    total = sum(CORE_CHANGE_WEIGHT.values())
    for size in range(1, 31):
        assert np.diag(flow, size).sum() == pytest.approx(CORE_CHANGE_WEIGHT.get(size, 0.0) / total / 2)


def test_the_chain_keeps_its_start_and_leads_everywhere() -> None:
    flow = change_flow()
    start = flow.sum(axis=1)
    step = flow / start[:, None]
    assert start @ step == pytest.approx(start)
    assert (np.linalg.matrix_power(step, 8) > 0).all()
    assert 0.027 < start.min() < start.max() < 0.052
    assert start @ np.arange(MIN_CORES, MAX_CORES + 1) == pytest.approx(17.0)


def test_a_draw_among_the_sizes_that_fit_would_favour_small_changes() -> None:
    """Why the chain is built from its flow."""
    fits = (change_flow() > 0) * np.abs(np.subtract.outer(np.arange(31), np.arange(31)))
    weight = np.vectorize(lambda size: CORE_CHANGE_WEIGHT.get(size, 0.0))(fits)
    step = weight / weight.sum(axis=1, keepdims=True)
    long_run = np.linalg.matrix_power(step, 500)[0]
    naive_mean = (long_run[:, None] * step * fits).sum()
    ours_mean = (change_flow() * fits).sum()
    assert ours_mean == pytest.approx(12.42, abs=0.01)
    assert naive_mean < 0.9 * ours_mean


@given(cores=st.integers(MIN_CORES, MAX_CORES), changes=st.integers(0, 200), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_a_walk_stays_within_the_sizes_and_changes_every_time(cores: int, changes: int, seed: int) -> None:
    walk = draw_walk(cores, changes, np.random.default_rng(seed))
    assert len(walk) == changes
    assert all(MIN_CORES <= c <= MAX_CORES for c in walk)
    assert all(abs(b - a) in CORE_CHANGE_WEIGHT for a, b in itertools.pairwise([cores, *walk]))


@given(seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_single_draws_stay_within_the_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = draw_shrink(rng)
    assert MIN_CORES <= after < before <= MAX_CORES
    assert before - after in CORE_CHANGE_WEIGHT
    assert MIN_CORES <= draw_cores(rng) <= MAX_CORES
