"""The verbs about packages, triggers, rules and namespaces: what they ask, and what they say of answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fallow_cli.action_document import copied, definition, web_annotations
from fallow_cli.cmd_action import url_path
from fallow_cli.entities import arguments, collection_path, entity_path, full_name
from fallow_cli.errors import CliError
from fallow_cli.main import cli

API = "/api/v1/namespaces"
KEY = "uuid:key"


@dataclass
class Server:
    """Answers what it was told to answer, in turn, and remembers what it was asked."""

    answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any = None, *, status: int = 200) -> None:
        self.answers.setdefault((method, API + path), []).append((status, body))

    def take(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append((method, path.removeprefix(API), json.loads(body) if body else None))
        known = self.answers.get((method, path.partition("?")[0]))
        status, document = known.pop(0) if known else (404, {"error": "The requested resource does not exist."})
        return status, b"" if document is None else json.dumps(document).encode()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = told.take(self.command, self.path, body)
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_DELETE = respond  # noqa: N815 - the names that the base class calls

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("FALLOW_URL", f"http://127.0.0.1:{http.server_address[1]}")
        monkeypatch.setenv("FALLOW_AUTH", KEY)
        monkeypatch.setenv("FALLOW_STATE_DIR", str(tmp_path))
        yield told
        http.shutdown()


def run(*args: str, code: int = 0) -> str:
    """Its output, errors included."""
    result = CliRunner().invoke(cli, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.output


def entity(name: str, namespace: str = "guest", **more: Any) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "version": "0.0.1", "publish": False, "annotations": [], **more}


@pytest.mark.parametrize(
    ("name", "what", "full"),
    [
        ("a", "action", "/_/a"),
        ("p/a b", "feed", "/_/p/a b"),
        ("/whisk.system/utils/echo", "action", "/whisk.system/utils/echo"),
        ("t", "trigger", "/_/t"),
        ("/guest/r", "rule", "/guest/r"),
    ],
)
def test_names_become_full(name: str, what: str, full: str) -> None:
    assert full_name(name, what) == full


@pytest.mark.parametrize("what", ["package", "trigger", "rule"])
@pytest.mark.parametrize("name", ["a/b", "/guest", "", "/guest/a/b"])
def test_only_actions_are_in_packages(name: str, what: str) -> None:
    with pytest.raises(CliError, match=f"is no {what} name"):
        entity_path(name, what)


def test_namespaces_may_have_a_slash_in_front() -> None:
    assert collection_path("packages", "/whisk.system") == collection_path("packages", "whisk.system")
    assert collection_path("rules", "/") == f"{API}/_/rules"


def test_parameters_given_singly_stand_over_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"a": 1, "b": 2}')
    assert arguments({"b": 3}, file) == {"a": 1, "b": 3}
    file.write_text("[1]")
    with pytest.raises(CliError, match="must hold a JSON object"):
        arguments({}, file)


def test_a_package_is_put_with_what_was_given(server: Server) -> None:
    server.answer("PUT", "/_/packages/p", entity("p"))
    assert "created guest/p 0.0.1" in run("package", "create", "p", "--shared", "yes", "-p", "n", "1", "-a", "d", "x")
    server.answer("PUT", "/_/packages/p", entity("p"))
    run("package", "update", "p")
    assert server.asked == [
        (
            "PUT",
            "/_/packages/p",
            {
                "publish": True,
                "parameters": [{"key": "n", "value": 1}],
                "annotations": [{"key": "d", "value": "x"}],
            },
        ),
        ("PUT", "/_/packages/p?overwrite=true", {}),
    ]


def test_a_binding_names_its_package(server: Server) -> None:
    server.answer("PUT", "/_/packages/b", entity("b"))
    assert json.loads(run("package", "bind", "/whisk.system/utils", "b", "-p", "k", "v", "--json")) == entity("b")
    binding = {"namespace": "whisk.system", "name": "utils"}
    assert server.asked[0][2] == {"binding": binding, "parameters": [{"key": "k", "value": "v"}]}


def test_a_package_that_is_not_empty_goes_with_force(server: Server) -> None:
    server.answer("DELETE", "/_/packages/p", {"error": "Package not empty", "code": "c1"}, status=409)
    assert "Package not empty (HTTP 409, code c1)" in run("package", "delete", "p", code=1)
    server.answer("DELETE", "/_/packages/p", entity("p"))
    assert "deleted guest/p" in run("package", "delete", "p", "--force")
    assert server.asked[-1][1] == "/_/packages/p?force=true"


def test_packages_are_listed_with_what_they_stand_for(server: Server) -> None:
    bound = entity("b", binding={"namespace": "whisk.system", "name": "utils"})
    server.answer("GET", "/_/packages", [bound, entity("p", publish=True, binding=False)])
    lines = run("package", "list", "--limit", "0").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["b", "0.0.1", "no", "/whisk.system/utils"],
        ["p", "0.0.1", "yes", "-"],
    ]
    assert server.asked[0][1] == "/_/packages?limit=0&skip=0"


def test_a_trigger_keeps_its_own_parameters(server: Server) -> None:
    server.answer("PUT", "/_/triggers/t", entity("t"))
    assert "created guest/t" in run("trigger", "create", "t", "-p", "a", "true")
    assert server.asked == [("PUT", "/_/triggers/t", {"parameters": [{"key": "a", "value": True}]})]


FED = {"annotations": [{"key": "feed", "value": "/_/p/f"}]}


def lifecycle(event: str, **given: Any) -> dict[str, Any]:
    return {**given, "lifecycleEvent": event, "triggerName": "/guest/t", "authKey": KEY}


def test_a_feed_is_told_of_its_trigger_from_creation_to_the_end(server: Server) -> None:
    server.answer("PUT", "/_/triggers/t", entity("t", **FED))
    server.answer("POST", "/_/actions/p/f", {"response": {"success": True, "result": {}}})
    run("trigger", "create", "t", "--feed", "p/f", "-p", "cron", "* * * * *")
    assert server.asked == [
        ("PUT", "/_/triggers/t", FED),
        ("POST", "/_/actions/p/f?blocking=true", lifecycle("CREATE", cron="* * * * *")),
    ]
    server.asked.clear()
    server.answer("GET", "/_/triggers/t", entity("t", **FED))
    server.answer("PUT", "/_/triggers/t", entity("t", **FED))
    server.answer("POST", "/_/actions/p/f", {"response": {"success": True, "result": {}}})
    run("trigger", "update", "t", "-p", "cron", "@daily")
    assert server.asked[1:] == [
        ("PUT", "/_/triggers/t?overwrite=true", {}),
        ("POST", "/_/actions/p/f?blocking=true", lifecycle("UPDATE", cron="@daily")),
    ]
    server.asked.clear()
    server.answer("GET", "/_/triggers/t", entity("t", **FED))
    server.answer("POST", "/_/actions/p/f", {"response": {"result": {"status": "active"}}})
    assert json.loads(run("trigger", "get", "t")) == {**entity("t", **FED), "feed": {"status": "active"}}
    assert server.asked[1][2] == lifecycle("READ")
    server.asked.clear()
    server.answer("GET", "/_/triggers/t", entity("t", **FED))
    server.answer("GET", "/_/actions/p/f", entity("f"))
    server.answer("POST", "/_/actions/p/f", {"response": {"success": True, "result": {}}})
    server.answer("DELETE", "/_/triggers/t", entity("t", **FED))
    assert "deleted guest/t" in run("trigger", "delete", "t")
    assert [asked[2] for asked in server.asked] == [None, None, lifecycle("DELETE"), None]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (502, {"response": {"result": {"error": "no such cron"}}}, "no such cron"),
        (404, {"error": "The requested resource does not exist.", "code": "c"}, "does not exist"),
        (202, {"activationId": "a" * 32}, "has not answered CREATE yet"),
    ],
)
def test_a_trigger_goes_when_its_feed_fails(server: Server, status: int, answer: Any, words: str) -> None:
    server.answer("PUT", "/_/triggers/t", entity("t", **FED))
    server.answer("POST", "/_/actions/p/f", answer, status=status)
    server.answer("DELETE", "/_/triggers/t", entity("t", **FED))
    assert words in run("trigger", "create", "t", "--feed", "p/f", code=1)
    assert server.asked[-1][:2] == ("DELETE", "/_/triggers/t")


def test_a_feed_that_refuses_keeps_its_trigger_and_one_that_is_gone_does_not(server: Server) -> None:
    server.answer("GET", "/_/triggers/t", entity("t", **FED))
    server.answer("GET", "/_/actions/p/f", entity("f"))
    server.answer("POST", "/_/actions/p/f", {"response": {"result": {"error": "busy"}}}, status=502)
    assert "did not delete" in run("trigger", "delete", "t", code=1)
    assert all(asked[0] != "DELETE" for asked in server.asked)
    server.answer("GET", "/_/triggers/t", entity("t", **FED))
    server.answer("DELETE", "/_/triggers/t", entity("t", **FED))
    assert "deleted guest/t" in run("trigger", "delete", "t")


def test_firing_says_whether_anything_runs(server: Server) -> None:
    server.answer("POST", "/_/triggers/t", {"activationId": "a" * 32}, status=202)
    assert "a" * 32 in run("trigger", "fire", "t", "-p", "who", "me")
    server.answer("POST", "/_/triggers/t", None, status=204)
    assert "no active rule" in run("trigger", "fire", "t")
    assert [asked[2] for asked in server.asked] == [{"who": "me"}, {}]


def joined(name: str, **more: Any) -> dict[str, Any]:
    ends = {"trigger": {"path": "guest", "name": "t"}, "action": {"path": "guest/p", "name": "a"}}
    return entity(name, **ends, **more)


def test_a_rule_joins_a_trigger_and_an_action(server: Server) -> None:
    server.answer("PUT", "/_/rules/r", joined("r", status="active"))
    run("rule", "create", "r", "t", "/guest/p/a")
    assert server.asked == [("PUT", "/_/rules/r", {"trigger": "/_/t", "action": "/guest/p/a"})]
    for verb, status in (("enable", "active"), ("disable", "inactive")):
        server.answer("POST", "/_/rules/r", joined("r", status=status))
        assert f"r is {status}" in run("rule", verb, "r")
        assert server.asked[-1] == ("POST", "/_/rules/r", {"status": status})
    server.answer("GET", "/_/rules/r", joined("r", status="inactive"))
    assert run("rule", "status", "r").strip() == "inactive"


def test_rules_are_listed_with_the_status_that_each_tells(server: Server) -> None:
    server.answer("GET", "/_/rules", [joined("r1"), joined("gone")])
    server.answer("GET", "/guest/rules/r1", joined("r1", status="active"))
    lines = run("rule", "list").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["r1", "0.0.1", "active", "/guest/t", "/guest/p/a"],
        ["gone", "0.0.1", "-", "/guest/t", "/guest/p/a"],
    ]


def test_what_there_is_in_a_namespace(server: Server) -> None:
    server.answer("GET", "", ["guest"])
    assert run("namespace", "list").strip() == "guest"
    limits = {"memory": 256, "timeout": 60000}
    for command in (("list",), ("namespace", "get", "/guest")):
        own = "guest" if len(command) > 1 else "_"
        server.answer("GET", f"/{own}/packages", [entity("p", binding=False)])
        server.answer("GET", f"/{own}/actions", [entity("a", "guest/p", limits=limits)])
        server.answer("GET", f"/{own}/triggers", [entity("t", **FED)])
        server.answer("GET", f"/{own}/rules", [])
        shown = run(*command)
        assert [name for name in ("p/a", "/_/p/f", "no rules") if name not in shown] == []


def test_actions_of_a_package_are_listed_by_its_path_with_a_slash(server: Server) -> None:
    server.answer("GET", "/whisk.system/actions/utils/", [])
    assert "no actions" in run("action", "list", "/whisk.system/utils")


def test_activations_are_shown_as_they_end_each_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(digit: str, start: int) -> dict[str, Any]:
        response = {"status": "success", "success": True, "result": {}}
        return {"activationId": digit * 32, "name": "a", "start": start, "response": response, "logs": [f"log {digit}"]}

    monkeypatch.setattr("fallow_cli.cmd_activation.POLL_PERIOD_S", 0.0)
    clock = iter(range(100))
    monkeypatch.setattr("fallow_cli.cmd_activation.mono_s", lambda: next(clock))
    server.answer("GET", "/_/activations", [record("1", 100_000)])
    server.answer("GET", "/_/activations", [record("3", 170_000), record("2", 160_000), record("1", 100_000)])
    server.answer("GET", "/_/activations", [record("3", 170_000)])
    shown = run("activation", "poll", "a", "--since", "90000", "--exit", "3").splitlines()
    assert [line.strip() for line in shown if "log" in line] == ["log 1", "log 2", "log 3"]
    since = [path.partition("since=")[2].partition("&")[0] for _, path, _ in server.asked]
    assert since == ["90000", "90000", "110000"]


def defined(**given: Any) -> dict[str, Any]:
    options = dict.fromkeys(
        ("file", "kind", "main", "memory", "timeout", "logsize", "concurrency", "param", "annotation")
    )
    return definition(**{**options, **given})


def test_a_sequence_has_full_names() -> None:
    document = defined(sequence="a, p/b,/whisk.system/utils/echo")
    components = ["/_/a", "/_/p/b", "/whisk.system/utils/echo"]
    assert document == {"exec": {"kind": "sequence", "components": components}}
    with pytest.raises(CliError, match="runs other actions"):
        defined(sequence="a", kind="python:3")


@pytest.mark.parametrize(
    ("web", "annotations"),
    [
        ("true", {"web-export": True, "raw-http": False, "final": True}),
        ("raw", {"web-export": True, "raw-http": True, "final": True}),
        ("false", {"web-export": False, "raw-http": False, "final": False}),
    ],
)
def test_web_actions_are_annotated(web: str, annotations: dict[str, Any]) -> None:
    assert web_annotations(web, None) == annotations


def test_what_web_callers_must_show() -> None:
    assert web_annotations(None, "secret") == {"require-whisk-auth": "secret"}
    assert web_annotations(None, "false") == {"require-whisk-auth": False}
    made = web_annotations(None, "true")["require-whisk-auth"]
    assert type(made) is int
    assert made != web_annotations(None, "true")["require-whisk-auth"]


def test_a_copy_is_its_source_with_what_was_given() -> None:
    source = entity(
        "a",
        exec={"kind": "python:3.11", "code": "c", "binary": False, "main": "go"},
        parameters=[{"key": "p", "value": 1}],
        limits={"memory": 256, "timeout": 60000},
    ) | {"annotations": [{"key": "exec", "value": "python:3.11"}, {"key": "d", "value": "old"}]}
    given = {"limits": {"memory": 512}, "annotations": [{"key": "d", "value": "new"}]}
    assert copied(source, given) == {
        "exec": {"kind": "python:3.11", "code": "c", "main": "go"},
        "parameters": [{"key": "p", "value": 1}],
        "annotations": [{"key": "d", "value": "new"}],
        "limits": {"memory": 512, "timeout": 60000},
    }


def test_copies_and_secrets_over_the_wire(server: Server) -> None:
    source = entity("a", exec={"kind": "python:3.11", "code": "c"}, parameters=[], limits={"memory": 256})
    server.answer("GET", "/_/actions/a", source)
    server.answer("PUT", "/_/actions/b", entity("b", annotations=[{"key": "require-whisk-auth", "value": 77}]))
    assert "77" in run("action", "create", "b", "a", "--copy", "--web", "true", "--web-secure", "true")
    sent = {item["key"]: item["value"] for item in server.asked[1][2]["annotations"]}
    assert sent["web-export"] is True
    assert "--copy needs the name" in run("action", "create", "b", "--copy", "--docker", "a/b", code=1)


def test_the_address_of_an_action() -> None:
    web = [{"key": "web-export", "value": True}]
    assert url_path(entity("a", annotations=web)) == "/api/v1/web/guest/default/a"
    assert url_path(entity("a b", "guest/p", annotations=web)) == "/api/v1/web/guest/p/a%20b"
    assert url_path(entity("a", "guest/p")) == f"{API}/guest/actions/p/a"
