"""Containers of a real process backend: starting one, and the bodies of its requests."""

from __future__ import annotations

import json

from fallow.core.model import ContainerId
from invoker.backends.process import ProcessBackend, ProcessContainer


def init(code: str) -> bytes:
    return json.dumps({"value": {"name": "a", "main": "main", "code": code, "binary": False, "env": {}}}).encode()


def run(**args: object) -> bytes:
    return json.dumps({"value": args, "activation_id": "x", "deadline": "1"}).encode()


async def start(
    backend: ProcessBackend, number: int = 1, memory_mb: int = 256, kind: str = "python:3"
) -> ProcessContainer:
    return await backend.start(ContainerId(number), kind=kind, memory_mb=memory_mb, cap_cores=1.0, on_exit=lambda: None)
