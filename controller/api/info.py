"""What a client asks before it calls: who am I talking to, which runtimes, which limits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from controller.api.code import BLACKBOX, DEFAULT_PYTHON, default_of
from controller.api.entity import MAX_PARAMETERS_BYTES
from controller.api.schema import (
    MAX_CONCURRENCY,
    MAX_LOGS_MB,
    MIN_MEMORY_MB,
    MIN_TIMEOUT_MS,
    Bounds,
)
from fallow import __version__
from fallow.core.throttle import Quota

_MB = 1 << 20


def service_info(bounds: Bounds, offered: Sequence[str], live: Collection[str], quota: Quota) -> dict[str, Any]:
    """`GET /`: durations in milliseconds, sizes in bytes."""
    kinds = sorted({DEFAULT_PYTHON, *offered} - {BLACKBOX})
    return {
        "description": "OpenWhisk",
        "support": {"github": "https://github.com/apache/openwhisk/issues", "slack": "http://slack.openwhisk.org"},
        "api_paths": ["/api/v1"],
        "limits": {
            "actions_per_minute": quota.invocations_per_minute,
            "triggers_per_minute": quota.fires_per_minute,
            "concurrent_actions": quota.concurrent_invocations,
            "sequence_length": 50,
            "default_min_action_duration": MIN_TIMEOUT_MS,
            "default_max_action_duration": bounds.max_timeout_ms,
            "default_min_action_memory": MIN_MEMORY_MB * _MB,
            "default_max_action_memory": bounds.max_memory_mb * _MB,
            "default_min_action_logs": 0,
            "default_max_action_logs": MAX_LOGS_MB * _MB,
            "min_action_duration": MIN_TIMEOUT_MS,
            "max_action_duration": bounds.max_timeout_ms,
            "min_action_memory": MIN_MEMORY_MB * _MB,
            "max_action_memory": bounds.max_memory_mb * _MB,
            "min_action_logs": 0,
            "max_action_logs": MAX_LOGS_MB * _MB,
        },
        "runtimes": _runtimes(kinds, live, bounds.deprecated_kinds),
    }


def _runtimes(
    kinds: Sequence[str], live: Collection[str], deprecated: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    current = tuple(kind for kind in kinds if kind not in deprecated)
    live = tuple(kind for kind in live if kind not in deprecated)
    families: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        family = kind.partition(":")[0]
        default = default_of(family, live=live, offered=current)
        runtime = _runtime(kind, is_default=kind == default, deprecated=kind in deprecated)
        families.setdefault(family, []).append(runtime)
    return families


def _runtime(kind: str, *, is_default: bool, deprecated: bool) -> dict[str, Any]:
    return {
        "kind": kind,
        "image": f"fallow/{kind.replace(':', '-')}",
        "deprecated": deprecated,
        "default": is_default,
        "attached": True,
        "requireMain": False,
    }


def api_info() -> dict[str, Any]:
    """`GET /api/v1`."""
    return {
        "description": "OpenWhisk API",
        "api_version": "1.0.0",
        "api_version_path": "v1",
        "build": f"fallow {__version__}",
        "buildno": __version__,
        "swagger_paths": {"ui": "/docs", "api-docs": "/api-docs"},
    }


def namespace_limits(bounds: Bounds, quota: Quota) -> dict[str, Any]:
    """`GET /namespaces/_/limits`: sizes of actions in MB, times in milliseconds, parameters in bytes."""
    return {
        "invocationsPerMinute": quota.invocations_per_minute,
        "concurrentInvocations": quota.concurrent_invocations,
        "firesPerMinute": quota.fires_per_minute,
        "minActionMemory": MIN_MEMORY_MB,
        "maxActionMemory": bounds.max_memory_mb,
        "minActionLogs": 0,
        "maxActionLogs": MAX_LOGS_MB,
        "minActionTimeout": MIN_TIMEOUT_MS,
        "maxActionTimeout": bounds.max_timeout_ms,
        "minActionConcurrency": 1,
        "maxActionConcurrency": MAX_CONCURRENCY,
        "maxParameterSize": MAX_PARAMETERS_BYTES,
        "maxActionInstances": quota.concurrent_invocations,
    }
