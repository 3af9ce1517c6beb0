"""Locust against a running cluster: FALLOW_URL and FALLOW_AUTH (uuid:secret) say which.

locust -f loadtest/locustfile.py --headless --users 10 --spawn-rate 10 --run-time 10s --host "$FALLOW_URL"
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import requests
from locust import FastHttpUser, between, events, task
from locust.env import Environment

ACTIONS = Path(__file__).resolve().parents[1] / "functions" / "actions"
DEPLOYED = {"locust_echo": "echo.py", "locust_busy": "busy.py"}
MEMORY_MB = 128
BUSY_CPU_MS = 5
DEPLOY_TIMEOUT_S = 30


class SetUpError(Exception):
    """The cluster is not known or refuses the actions."""


def _server() -> tuple[str, tuple[str, str]]:
    url, key = os.environ.get("FALLOW_URL", ""), os.environ.get("FALLOW_AUTH", "")
    if not url or ":" not in key:
        raise SetUpError("set FALLOW_URL (http://host:port) and FALLOW_AUTH (uuid:secret) to a running cluster")
    user, _, secret = key.partition(":")
    return url.rstrip("/"), (user, secret)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust is not typed
def deploy(environment: Environment, **_: Any) -> None:
    """Both actions, once for all users. A failure ends the run with exit code 1: there is nothing to measure."""
    try:
        url, auth = _server()
        for name, file in DEPLOYED.items():
            document: dict[str, Any] = {
                "exec": {"kind": "python:default", "code": (ACTIONS / file).read_text()},
                "limits": {"memory": MEMORY_MB},
            }
            path = f"{url}/api/v1/namespaces/_/actions/{name}?overwrite=true"
            answer = requests.put(path, json=document, auth=auth, timeout=DEPLOY_TIMEOUT_S)
            if answer.status_code != 200:
                raise SetUpError(f"{name} was not deployed: HTTP {answer.status_code} {answer.text[:200]}")
    except (SetUpError, requests.RequestException) as e:
        environment.process_exit_code = 1
        if environment.runner is not None:
            environment.runner.quit()
        raise SystemExit(f"locustfile: {e}") from None


class Caller(FastHttpUser):
    """Invokes echo most of the time and busy now and then, always blocking."""

    host = os.environ.get("FALLOW_URL")
    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        _, (user, secret) = _server()
        self.client.auth_header = requests.auth._basic_auth_str(user, secret)

    @task(4)
    def echo(self) -> None:
        arguments = {"text": "fallow"}
        self._invoke("locust_echo", arguments, lambda result: result == arguments)

    @task(1)
    def busy(self) -> None:
        self._invoke("locust_busy", {"cpu_ms": BUSY_CPU_MS}, lambda result: result["cpu_ms"] >= BUSY_CPU_MS)

    def _invoke(self, action: str, arguments: dict[str, Any], right: Any) -> None:
        path = f"/api/v1/namespaces/_/actions/{action}?blocking=true&result=true"
        with self.client.post(path, json=arguments, name=action, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"HTTP {answer.status_code}: {answer.text[:200]}")
            elif not right(answer.json()):
                answer.failure(f"a wrong result: {answer.text[:200]}")
            else:
                answer.success()
