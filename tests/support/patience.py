"""How long a test waits before it has failed. TEST_FALLOW_PATIENCE multiplies it where everything takes longer, as in
an emulated machine; nothing passes or fails by a time otherwise."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("TEST_FALLOW_PATIENCE", "1"))


def patient(seconds: float) -> float:
    return seconds * FACTOR
