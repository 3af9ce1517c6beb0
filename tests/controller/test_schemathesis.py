"""Schemathesis against a controller: requests made from the API's document, right and wrong ones; answers held to it.

What is random has a fixed seed, so that each run makes the same requests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
import schemathesis.engine
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from controller.api.openapi.document import document
from controller.api.openapi.schemas import ref
from controller.api.schema import Bounds
from fallow.core.model import Status

OPERATOR = "operator"
FLAGS = ["true", "false", "yes", "no", "on", "off", "1", "0", ""]  # all that a boolean parameter may be
# Few names, so that what one request makes is what another one meets.
NAMES = {
    "action": ["a", "t"],
    "package": ["p", "b"],
    "trigger": ["t"],
    "rule": ["r", "p"],
    "webPackage": ["default"],
    "webAction": ["web", "web.json", "web.html", "web.svg", "web.text", "web.http"],
}
ENDS = {"trigger": ["/_/t"], "action": ["/_/a", "/_/p/a"]}
CODE = "def main(args):\n    return args\n"
FIRST = {
    "packages/p": {},
    "actions/a": {"exec": {"kind": "python:default", "code": CODE}},
    "actions/p/a": {"exec": {"kind": "sequence", "components": ["/_/a"]}},
    "actions/web": {
        "exec": {"kind": "python:default", "code": CODE},
        "annotations": [{"key": "web-export", "value": True}],
    },
    "triggers/t": {},
    "rules/r": {"trigger": "/_/t", "action": "/_/p/a"},
}


def exact_document() -> dict[str, Any]:
    """The document, with answers that have no fields but those named."""
    made = document(Bounds(max_timeout_ms=300_000, max_memory_mb=2048))
    schemas = made["components"]["schemas"]
    for name in schemas:
        if not name.endswith(("Given", "Wanted", "Exec", "Story")):
            schemas[name] = _exact(schemas[name])
    for parameter in made["components"]["parameters"].values():
        if parameter.get("allowEmptyValue"):
            parameter["schema"] = _one_of(FLAGS)
    return made


def _exact(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_exact(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _exact(value) for key, value in schema.items()}
    return {"additionalProperties": False, **made} if isinstance(made.get("properties"), dict) else made


def narrow_document() -> dict[str, Any]:
    """The same with few names, and with bodies that may be put: most requests find something."""
    made = exact_document()
    parameters, schemas = made["components"]["parameters"], made["components"]["schemas"]
    for name, values in NAMES.items():
        parameters[name]["schema"] = _one_of(values)
    schemas["CodeExec"]["properties"] |= {"kind": _one_of(["python:default", "python:3.11"]), "code": _one_of([CODE])}
    components = {"items": _one_of(ENDS["action"]), "minItems": 1, "maxItems": 3}
    schemas["SequenceExec"]["properties"]["components"] |= components
    schemas["ActionGiven"]["properties"]["exec"]["anyOf"] = [ref("CodeExec"), ref("SequenceExec")]
    schemas["RuleGiven"]["properties"] |= {end: _one_of(names) for end, names in ENDS.items()}
    bound_to = schemas["PackageGiven"]["properties"]["binding"]["anyOf"][0]
    bound_to["properties"] = {"namespace": _one_of(["_"]), "name": _one_of(NAMES["package"])}
    for operation in made["paths"]["/api/v1/web/{namespace}/{webPackage}/{webAction}"].values():
        if "requestBody" in operation:
            operation["requestBody"]["content"]["application/json"]["schema"] = _WEB_ANSWER
    for name, needed in (("ActionGiven", ["exec"]), ("RuleGiven", list(ENDS))):
        schemas[name]["required"] = needed
    return made


# What a web action that returns its arguments makes an answer of.
_WEB_ANSWER = {
    "type": "object",
    "properties": {
        "statusCode": {"enum": [200, 204, "418", 444, 99, True, "x", [], None]},
        "headers": {
            "type": "object",
            "properties": {
                "Content-Type": {"enum": ["text/plain", "image/png", "application/json", "nothing", "a/b;c\r\nd", 1]},
                "X-Mine": {},
                "Content-Length": {"enum": [1, "x"]},
            },
        },
        "body": {},
        "text": {},
    },
}


def _one_of(values: list[str]) -> dict[str, Any]:
    return {"type": "string", "enum": values}


def described(url: str, auth: str, api: dict[str, Any], examples: int, **selected: str) -> Any:
    """Schemathesis' view of the operations of that document which are `selected`."""
    phases = {name: {"enabled": name != "stateful"} for name in ("examples", "coverage", "fuzzing", "stateful")}
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "headers": {"Authorization": auth},
            "parameters": {} if OPERATOR in selected.values() else {"path.namespace": "_"},
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
            "phases": phases,
            "checks": {
                # Whether a right body is accepted may depend on what there is: names, kinds, packages.
                "positive_data_acceptance": {"enabled": False},
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "502"]},  # 502: an action failed
            },
        }
    )
    return schemathesis.openapi.from_dict(api, config=config).include(**selected)


@dataclass
class Run:
    """What came of requests that Schemathesis thought of."""

    failures: list[str] = field(default_factory=list)
    succeeded: set[str] = field(default_factory=set)  # operations

    def take(self, event: Any) -> None:
        match event:
            case events.FatalError():
                raise event.exception
            case events.NonFatalError():
                self.failures.append(f"{event.label}: {event.value}")
            case events.ScenarioFinished():
                self._take_scenario(event.recorder)

    def _take_scenario(self, recorder: Any) -> None:
        for check in (check for checks in recorder.checks.values() for check in checks):
            if (told := check.failure_info) is not None:
                self.failures.append(f"{check.name}: {told.failure}\n{told.code_sample}")
        for case_id, interaction in recorder.interactions.items():
            case = recorder.cases[case_id].value
            tried = interaction.request.method == case.operation.method.upper()  # else a method that is not allowed
            if tried and interaction.response is not None and interaction.response.status_code < 300:
                self.succeeded.add(case.operation.definition.raw["operationId"])


def run_alone(schema: Any) -> Run:
    """Each operation for itself: examples, the edges of what is allowed and beyond, and random requests."""
    found = Run()
    for event in schemathesis.engine.from_schema(schema).execute():
        found.take(event)
    return found


@pytest.fixture
async def cluster(boot: Any) -> AsyncIterator[Any]:
    """With a VM that is never missed: the invoker in it reports once only."""
    async with boot(lost_after_s=3600.0, off_ring_after_s=7200.0) as made:
        await made.join(behaviour=reply)
        yield made


def reply(invoker: Any, run: Any) -> None:
    """The arguments; those that hold an error are one."""
    failed = "error" in json.loads(run.args)
    invoker.finish(run, run.args, Status.APPLICATION_ERROR if failed else Status.SUCCESS)


async def test_single_requests_are_answered_as_the_document_says(cluster, keys) -> None:
    schema = described(cluster.client.url, keys["guest"], exact_document(), 2, tag_regex=f"^(?!{OPERATOR})")
    found = await asyncio.to_thread(run_alone, schema)
    assert found.failures == []
    assert found.succeeded >= {"putPackage", "putTrigger", "listRules", "listActivations", "getApiInfo", "getDocsHead"}


async def test_the_operators_requests_are_answered_as_the_document_says(cluster, keys) -> None:
    api = exact_document()
    del api["paths"]["/disable"]  # no call would be served after it
    found = await asyncio.to_thread(run_alone, described(cluster.client.url, keys["operator"], api, 2, tag=OPERATOR))
    assert found.failures == []
    assert found.succeeded >= {"getStatus", "makeKey", "putQuotas", "getMetrics"}


def histories(schema: Any, url: str, operator: str, succeeded: set[str]) -> type[RuleBasedStateMachine]:
    """Requests one after the other, each history in a namespace of its own."""
    operations = [found.ok() for found in schema.get_all_operations()]
    about_one = [operation for operation in operations if "{activationId}" in operation.path]
    others = [operation for operation in operations if operation not in about_one]
    likely = [*(operation for operation in others if operation.method in ("put", "post")), *others]
    numbers = itertools.count()

    class History(RuleBasedStateMachine):
        activation_ids = Bundle("activation_ids")

        @initialize()
        def start(self) -> None:
            self.namespace = f"history-{next(numbers)}"
            wanted = {"namespace": self.namespace}
            made = requests.post(f"{url}/admin/v1/keys", json=wanted, headers={"Authorization": operator}, timeout=10)
            self.headers = {"Authorization": requests.auth._basic_auth_str(*made.json()["key"].split(":"))}

            for path, body in FIRST.items():
                first = f"{url}/api/v1/namespaces/_/{path}"
                assert requests.put(first, json=body, headers=self.headers, timeout=10).status_code == 200

        @rule(target=activation_ids, case=st.sampled_from(likely).flatmap(lambda each: each.as_strategy()))
        def send(self, case: Any) -> Any:
            answer = self.send_as_described(case)
            return multiple(*answer.headers.get("x-openwhisk-activation-id", []))

        @rule(activation_id=activation_ids, case=st.sampled_from(about_one).flatmap(lambda each: each.as_strategy()))
        def ask_about(self, activation_id: str, case: Any) -> None:
            case.path_parameters["activationId"] = activation_id
            self.send_as_described(case)

        def send_as_described(self, case: Any) -> Any:
            case.path_parameters["namespace"] = self.namespace if "web" in case.operation.tags else "_"
            answer = case.call(headers=self.headers)
            case.validate_response(answer, headers=self.headers)
            if answer.status_code < 300:
                succeeded.add(case.operation.definition.raw["operationId"])
            return answer

    return History


async def test_requests_that_follow_each_other_are_answered_as_the_document_says(cluster, keys) -> None:
    tags = "^(actions|packages|triggers|rules|activations|web)$"
    schema = described(cluster.client.url, keys["guest"], narrow_document(), 1, tag_regex=tags)
    settings = hypothesis.settings(
        max_examples=10,
        stateful_step_count=40,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],  # what failed in one namespace need not fail again in another
    )
    succeeded: set[str] = set()
    machine = histories(schema, cluster.client.url, keys[OPERATOR], succeeded)
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=settings)
    assert len(succeeded) >= 12, "hardly anything was asked that could succeed"
