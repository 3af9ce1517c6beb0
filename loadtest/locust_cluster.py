"""What the Locust files share: the cluster that FALLOW_URL and FALLOW_AUTH (uuid:secret) name, and its actions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import requests
from locust.env import Environment

DEPLOY_TIMEOUT_S = 30


class SetUpError(Exception):
    """The cluster is not known or refuses the actions."""


def server() -> tuple[str, tuple[str, str]]:
    """(URL, (user, secret)). Raises SetUpError."""
    url, key = os.environ.get("FALLOW_URL", ""), os.environ.get("FALLOW_AUTH", "")
    if not url or ":" not in key:
        raise SetUpError("set FALLOW_URL (http://host:port) and FALLOW_AUTH (uuid:secret) to a running cluster")
    user, _, secret = key.partition(":")
    return url.rstrip("/"), (user, secret)


def number(name: str, default: float) -> float:
    """A variable of the environment. Raises SetUpError where it is no positive number."""
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not value > 0:
        raise SetUpError(f"{name} is {text!r}; it must be a positive number")
    return value


def authorization() -> str:
    _, (user, secret) = server()
    return str(requests.auth._basic_auth_str(user, secret))


def put(documents: Mapping[str, dict[str, Any]]) -> None:
    """Every action by its name. Raises SetUpError."""
    url, auth = server()
    with requests.Session() as session:
        for name, document in documents.items():
            path = f"{url}/api/v1/namespaces/_/actions/{name}?overwrite=true"
            try:
                answer = session.put(path, json=document, auth=auth, timeout=DEPLOY_TIMEOUT_S)
            except requests.RequestException as e:
                raise SetUpError(f"{name} was not deployed: {e}") from None
            if answer.status_code != 200:
                raise SetUpError(f"{name} was not deployed: HTTP {answer.status_code} {answer.text[:200]}")


def or_quit(environment: Environment, set_up: Callable[[], None]) -> None:
    """A failure ends the run with exit code 1: there is nothing to measure."""
    try:
        set_up()
    except SetUpError as e:
        environment.process_exit_code = 1
        if environment.runner is not None:
            environment.runner.quit()
        raise SystemExit(f"locust: {e}") from None


def judge(answer: Any) -> None:
    """Marks a caught blocking answer: a failure unless it is the final record of a success."""
    if answer.status_code == 200:
        answer.success()
    else:
        answer.failure(f"HTTP {answer.status_code}: {(answer.text or '')[:200]}")
