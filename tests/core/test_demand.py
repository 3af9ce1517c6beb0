from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.demand import CPU_KEPT, LONG_WINDOW_S, UNKNOWN, Demand, Estimate


def sampled(*samples: tuple[float, float]) -> Demand:
    demand = Demand()
    for cpu_cores, exec_s in samples:
        demand.completed(cpu_cores, exec_s)
    return demand


def test_before_any_sample() -> None:
    demand = Demand()
    demand.arrived(1.0)
    assert demand.estimate == UNKNOWN == Estimate(cpu_cores=1.0, time_s=0.001, cap_cores=1.0)
    assert demand.rate_per_s(1.0) == 0.0


@pytest.mark.parametrize(
    ("cpu", "cpu_f", "cap_f"), [(0.0, 1, 1), (0.3, 1, 1), (0.7, 2, 2), (1.2, 2, 3), (2.0, 3, 4), (9.0, 4, 4)]
)
def test_after_the_first_sample_whole_cores_and_half_as_much_time_again(cpu: float, cpu_f: float, cap_f: float) -> None:
    assert sampled((cpu, 2.0)).estimate == Estimate(cpu_cores=cpu_f, time_s=3.0, cap_cores=cap_f)
    assert sampled(*[(cpu, 2.0), (0.0, 9.0)] * 2).estimate == sampled((cpu, 2.0)).estimate  # until the fifth


def test_every_fifth_sample_the_mean_weighted_by_time() -> None:
    demand = sampled((1.0, 10.0), (0.1, 1.0), (0.1, 1.0), (0.1, 1.0), (0.1, 1.0))
    assert demand.estimate.cpu_cores == pytest.approx((10.0 + 0.4) / 14.0)
    assert demand.estimate.time_s == pytest.approx(14.0 / 5)
    assert demand.estimate.cap_cores == 2  # ceil(1.5 x 1.0)
    for _ in range(4):
        demand.completed(0.02, 0.5)
    assert demand.estimate.time_s == pytest.approx(14.0 / 5)
    demand.completed(0.02, 0.5)  # the next five stand alone
    assert demand.estimate.cpu_cores == pytest.approx(0.02)
    assert demand.estimate.time_s == pytest.approx(0.5)
    assert demand.estimate.cap_cores == 2  # the percentile remembers


def test_calls_too_short_to_time() -> None:
    assert sampled(*[(0.4, 0.0)] * 5).estimate == Estimate(cpu_cores=pytest.approx(0.4), time_s=0.0, cap_cores=1.0)


def test_p99_forgets_and_forgives_one_in_a_hundred() -> None:
    demand = sampled(*[(3.0, 1.0)] * 5)
    assert demand.estimate.cap_cores == 4
    for _ in range(CPU_KEPT - 1):
        demand.completed(0.2, 1.0)
    demand.completed(3.0, 1.0)
    for _ in range(5):
        demand.completed(0.2, 1.0)
    assert demand.estimate.cap_cores == 1  # one of the last hundred was large: that is the 100th percentile


def test_rate_of_a_new_action_is_seen_in_the_short_window() -> None:
    demand = sampled((1.0, 1.0))
    for tenth in range(100):
        demand.arrived(100.0 + tenth / 10)
    assert demand.rate_per_s(109.95) == pytest.approx(100 / 9.95)
    # It stops: after ten seconds nothing is left, though the long window still remembers.
    assert demand.rate_per_s(120.0) == 0.0


def test_rate_of_a_known_action_is_seen_in_the_long_window() -> None:
    demand = sampled((1.0, 1.0))
    for second in range(200):
        demand.arrived(second + 0.5)
    assert demand.rate_per_s(200.0) == pytest.approx(59 / 59.0)
    assert demand.rate_per_s(210.0) == pytest.approx(49 / 59.0)
    assert demand.rate_per_s(300.0) == 0.0


def test_after_a_minute_of_silence_an_action_is_new_again() -> None:
    demand = sampled((1.0, 1.0))
    for second in range(100):
        demand.arrived(float(second))
    for tenth in range(50):
        demand.arrived(500.0 + tenth / 10)
    assert demand.rate_per_s(505.0) == pytest.approx(50 / 9.0)


@given(st.lists(st.floats(0.0, 30.0), max_size=300))
def test_rate_equals_a_count_of_the_window(gaps_s: list[float]) -> None:
    demand = sampled((1.0, 1.0))
    arrivals: list[float] = []
    now_s = since_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        if not any(math.floor(a) > math.floor(now_s) - LONG_WINDOW_S for a in arrivals):
            since_s = now_s
        arrivals.append(now_s)
        demand.arrived(now_s)
        window = 60 if now_s - since_s >= 60 else 10
        recent = sum(math.floor(now_s) - math.floor(a) < window for a in arrivals)
        assert demand.rate_per_s(now_s) == pytest.approx(recent / (window - 1 + now_s % 1.0))
    assert len(demand._arrivals) <= LONG_WINDOW_S


def test_memory_is_bounded_whatever_the_rate() -> None:
    demand = Demand()
    for number in range(20_000):
        demand.arrived(number / 100)
        demand.completed(0.5, 0.1)
    assert len(demand._arrivals) <= LONG_WINDOW_S
    assert len(demand._cpus) == CPU_KEPT
