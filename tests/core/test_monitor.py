from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.model import VmId
from fallow.core.monitor import EXPIRY_PERIODS, MonitorState, NoProvider, OrderVms


def vms(*cores: float, first: int = 1) -> list[tuple[VmId, float]]:
    return [(VmId(f"h{number}"), c) for number, c in enumerate(cores, first)]


def make_monitor(target_cores: float = 30.0, has_provider: bool = True) -> MonitorState:
    return MonitorState(target_cores=target_cores, period_s=30.0, has_provider=has_provider)


def test_the_worked_example_of_the_docstring() -> None:
    monitor = make_monitor()
    assert monitor.decide(0.0, vms(8, 5)) is None  # looks first
    assert monitor.decide(30.0, vms(8, 5)) == OrderVms(target=5, deficit_cores=17.0)
    assert monitor.decide(60.0, vms(8, 5, 4)) == OrderVms(target=6, deficit_cores=1.0)


def test_answers_once_a_period_and_not_for_periods_slept_through() -> None:
    monitor = make_monitor()
    answers = [monitor.decide(t, []) is not None for t in (0.0, 29.9, 30.0, 31.0, 59.9)]
    assert answers == [False, False, True, False, False]
    monitor = make_monitor()
    monitor.decide(0.0, [])
    assert monitor.decide(305.0, vms(8)) is not None
    assert monitor.decide(329.9, []) is None
    assert monitor.decide(330.0, []) is not None  # the schedule is kept


def test_what_was_ordered_is_not_ordered_again() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(8, 5))
    monitor.decide(30.0, vms(8, 5))
    assert monitor.pending == 3
    assert monitor.decide(60.0, vms(8, 5)) is None
    assert monitor.decide(90.0, vms(8, 5, 6, 6, 6)) is None
    assert monitor.pending == 0


def test_an_order_that_never_joins_expires_and_is_repeated_as_the_same_target() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(8, 5))
    first = monitor.decide(30.0, vms(8, 5))
    later = [monitor.decide(30.0 + 30.0 * period, vms(8, 5)) for period in range(1, EXPIRY_PERIODS + 1)]
    assert later == [None] * (EXPIRY_PERIODS - 1) + [first]


def test_an_evicted_vm_is_replaced() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(16, 16))
    assert monitor.decide(30.0, vms(16, 16)) is None
    assert monitor.decide(60.0, vms(16)) == OrderVms(target=1 + 3, deficit_cores=14.0)


def test_a_vm_under_notice_counts_for_the_provider_but_not_for_the_cores() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(16, 16))
    # h2 is still alive there: a target of 4 would bring two VMs, and three are needed.
    assert monitor.decide(30.0, vms(16), leaving=1) == OrderVms(target=1 + 1 + 3, deficit_cores=14.0)


def test_a_silent_vm_that_is_back_is_no_new_one() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(8, 5))
    monitor.decide(30.0, vms(8))
    pending = monitor.pending
    monitor.decide(60.0, vms(8, 5))
    assert monitor.pending == pending


def test_a_failed_order_is_repeated_at_the_next_period() -> None:
    monitor = make_monitor()
    monitor.decide(0.0, vms(8, 5))
    order = monitor.decide(30.0, vms(8, 5))
    monitor.order_failed()
    assert monitor.decide(60.0, vms(8, 5)) == order


def test_a_new_holder_of_the_role_orders_nothing_twice() -> None:
    first, second = make_monitor(), make_monitor()
    first.decide(0.0, vms(8, 5))
    order = first.decide(30.0, vms(8, 5))
    second.decide(31.0, vms(8, 5))
    assert second.decide(61.0, vms(8, 5)) == order


def test_without_a_provider_it_says_so_once() -> None:
    monitor = make_monitor(has_provider=False)
    monitor.decide(0.0, [])
    answers = [monitor.decide(30.0 * period, vms(20)) for period in range(1, 10)]
    assert answers == [NoProvider(deficit_cores=10.0)] + [None] * 8


def test_off_without_a_target() -> None:
    monitor = make_monitor(target_cores=0.0)
    assert [monitor.decide(30.0 * period, []) for period in range(5)] == [None] * 5


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(ValueError, match="target_cores is -1"):
        make_monitor(target_cores=-1.0)
    with pytest.raises(ValueError, match="period_s is 0"):
        MonitorState(target_cores=1.0, period_s=0.0, has_provider=True)


@given(st.floats(1.0, 200.0), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_against_a_provider_the_target_is_held_without_overshoot(
    target_cores: float, periods: list[tuple[int, int]]
) -> None:
    """Each period the provider starts some of what is ordered and loses some VMs; a VM has six cores."""
    monitor = make_monitor(target_cores)
    alive: list[VmId] = []
    count = wanted = 0

    def start(most: int) -> None:
        nonlocal count
        for _ in range(min(most, wanted - len(alive))):
            count += 1
            alive.append(VmId(f"h{count}"))

    now_s = 0.0
    monitor.decide(now_s, [])
    for starts, losses in [*periods, *[(1000, 0)] * (EXPIRY_PERIODS + 2)]:
        del alive[:losses]
        start(starts)
        now_s += 30.0
        match monitor.decide(now_s, [(vm_id, 6.0) for vm_id in alive]):
            case OrderVms(target=wanted):
                pass
            case answer:
                assert answer is None
        needed = -(-target_cores // 6)
        assert wanted <= needed + monitor.pending
        assert len(alive) <= needed + 1
    assert 6 * len(alive) >= target_cores


def test_short_periods_wait_for_vms_to_boot() -> None:
    monitor = MonitorState(target_cores=12, period_s=1.0, has_provider=True, boot_s=10.0)
    assert monitor.decide(0.0, []) is None
    assert monitor.decide(9.0, []) is None, "what was started with the cluster may still be booting"
    assert monitor.decide(10.0, []) == OrderVms(target=2, deficit_cores=12)
    assert monitor.decide(16.0, []) is None, "longer than four periods, but an order may take ten seconds"
    assert monitor.decide(20.0, []) == OrderVms(target=2, deficit_cores=12)
