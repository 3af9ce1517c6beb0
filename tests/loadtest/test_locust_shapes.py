"""Shapes and the mix of the Locust files, without Locust: it patches the standard library when it is imported."""

from __future__ import annotations

import subprocess
import sys

SHAPES = """
from loadtest.locust_shapes import steps, storm
assert [steps(t) for t in (0, 119, 120, 1199, 1200)] == [25, 25, 50, 250, None]
assert [storm(t) for t in (0, 119.9, 120, 139, 140, 700)] == [10, 10, 200, 200, 10, None]
from loadtest.locust_mix import actions, documents
assert len(actions(50)) == 401
assert abs(sum(share for _, share in actions(50).values()) - 1) < 1e-9
assert actions(50)["pyaes-7"] == ("pyaes", 5 / 34 / 50)
assert documents(1)["mobilenet-0"]["limits"] == {"memory": 1024}
"""


def test_shapes_and_mix_are_those_of_the_evaluation() -> None:
    done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
