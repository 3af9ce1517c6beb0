"""The bodies of /init and /run (the action-container protocol, sections 2 and 3).

Arguments and code are put in as they are; nothing that a caller wrote is parsed here. Every value beside `value` is a
string: official runtimes die of a number.
"""

from __future__ import annotations

import json
from functools import lru_cache

from fallow.core.model import ActionSpec
from fallow.infra.messages import Run


def init_body(spec: ActionSpec, run: Run, code_json: bytes, *, deadline_unix_ms: int, api_host: str) -> bytes:
    """`code_json` is the code as a JSON string. Parameters marked `init` go into the environment only."""
    env = {
        "__OW_API_HOST": api_host,
        "__OW_NAMESPACE": spec.caller_namespace,
        "__OW_ACTION_NAME": f"/{spec.namespace}/{spec.name}",
        "__OW_ACTION_VERSION": spec.version,
        "__OW_ACTIVATION_ID": run.activation_id,
        "__OW_TRANSACTION_ID": run.transaction_id,
        "__OW_DEADLINE": str(deadline_unix_ms),
    }
    if spec.provide_api_key and run.api_key:
        env["__OW_API_KEY"] = run.api_key
    env.update(spec.init_env)
    value = {"name": spec.name.rpartition("/")[2], "main": spec.main, "binary": spec.binary, "env": env}
    return b'{"value":' + json.dumps(value).encode()[:-1] + b',"code":' + code_json + b"}}"


def run_body(spec: ActionSpec, run: Run, *, deadline_unix_ms: int) -> bytes:
    """The arguments' bytes pass untouched."""
    api_key = f'"api_key":{json.dumps(run.api_key)},' if spec.provide_api_key and run.api_key else ""
    fields = _action_fields(spec.caller_namespace, spec.namespace, spec.name, spec.version)
    head = (
        f'{{{fields}"activation_id":"{run.activation_id}",'
        f'"transaction_id":{json.dumps(run.transaction_id)},"deadline":"{deadline_unix_ms}",{api_key}"value":'
    )
    return head.encode() + (run.args or b"{}") + b"}"


@lru_cache(maxsize=4096)
def _action_fields(caller: str, namespace: str, name: str, version: str) -> str:
    fields = {"namespace": caller, "action_name": f"/{namespace}/{name}", "action_version": version}
    return json.dumps(fields)[1:-1] + ","
