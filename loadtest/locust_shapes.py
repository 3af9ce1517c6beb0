"""Shapes of a load: steps that find the knee, and storms that come out of nothing. FALLOW_SHAPE says which (steps).

locust -f loadtest/locust_mix.py,loadtest/locust_shapes.py --headless
"""

from __future__ import annotations

import os

from locust import LoadTestShape

STEP_S, STEP_USERS, STEPS = 120.0, 25, 10
CALM_S, CALM_USERS, STORM_S, STORM_USERS, STORMS = 120.0, 10, 20.0, 200, 5


def steps(run_s: float) -> int | None:
    """Users so many seconds into the run; None = it is over. Ten steps of 2 min, 25 users more each time."""
    step = int(run_s // STEP_S)
    return None if step >= STEPS else STEP_USERS * (step + 1)


def storm(run_s: float) -> int | None:
    """The same: five times 2 min of ten users, then 20 s of two hundred."""
    turn, into_s = divmod(run_s, CALM_S + STORM_S)
    if turn >= STORMS:
        return None
    return CALM_USERS if into_s < CALM_S else STORM_USERS


SHAPES = {"steps": steps, "storm": storm}


class Shape(LoadTestShape):
    """The one that FALLOW_SHAPE names."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        name = os.environ.get("FALLOW_SHAPE", "steps")
        if name not in SHAPES:
            raise SystemExit(f"locust: FALLOW_SHAPE is {name!r}; known: {', '.join(SHAPES)}")
        self._shape = SHAPES[name]

    def tick(self) -> tuple[int, float] | None:
        users = self._shape(self.get_run_time())  # type: ignore[no-untyped-call]
        return None if users is None else (users, float(STORM_USERS))
