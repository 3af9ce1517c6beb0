"""What every runtime's server does alike, spoken to over its socket as the invoker does."""

from __future__ import annotations

import base64
import io
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.containers import LIMIT_S, NODE, SENTINEL, Container, packed

RUNTIMES = Path(__file__).parents[2] / "functions" / "runtimes"


@dataclass(frozen=True, kw_only=True)
class Language:
    """How to start a runtime's server, and the same actions in its language."""

    command: tuple[str, ...]
    entry: str  # the file of a zip that is loaded
    echo: str
    log: str  # "whole" and a newline, and "part", to standard output, "e" to standard error
    environ: str  # those environment variables that args.names lists
    see: str  # write "line" and return what the file args.log holds
    end: str  # ends the process with code 3
    lengths: str  # {length, text: the first 3000000} of args.text
    surrogate: str  # a lone surrogate as result


LANGUAGES = {
    "python": Language(
        command=(sys.executable, "-S", "-E", str(RUNTIMES / "python" / "server.py")),
        entry="__main__.py",
        echo="def main(args):\n    return args\n",
        log="import sys\ndef main(args):\n    print('whole')\n    print('part', end='')\n    sys.stderr.write('e')\n"
        "    return {}\n",
        environ="import os\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k in args['names']}\n",
        see="def main(args):\n    print('line')\n    return {'seen': open(args['log']).read()}\n",
        end="import os\ndef main(args):\n    os._exit(3)\n",
        lengths="def main(args):\n    return {'length': len(args['text']), 'text': args['text'][:3_000_000]}\n",
        surrogate="def main(args):\n    return {'x': '\\ud800'}\n",
    ),
    "nodejs": Language(
        command=(NODE, str(RUNTIMES / "nodejs" / "server.cjs")),
        entry="index.js",
        echo="function main(args) { return args }\n",
        log="function main() {\n"
        "  console.log('whole'); process.stdout.write('part'); process.stderr.write('e'); return {}\n}\n",
        environ="function main({ names }) {\n"
        "  return Object.fromEntries(Object.entries(process.env).filter(([k]) => names.includes(k)))\n}\n",
        see="const fs = require('fs')\n"
        "const main = (args) => { console.log('line'); return { seen: fs.readFileSync(args.log, 'utf8') } }\n",
        end="exports.main = () => process.exit(3)",
        lengths="const main = ({ text }) => ({ length: text.length, text: text.slice(0, 3_000_000) })",
        surrogate="const main = () => ({ x: '\\ud800' })",
    ),
}


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> Language:
    return LANGUAGES[request.param]


@pytest.fixture
def container(language: Language) -> Iterator[Container]:
    started = Container(*language.command)
    yield started
    started.close()


@pytest.fixture
def on_port(language: Language) -> Iterator[Container]:
    """The server as it runs in a Docker container, but for its root file system."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = Container(*language.command, port=port)
    yield started
    started.close()
    shutil.rmtree("/tmp/action", ignore_errors=True)


def test_over_tcp_clients_come_one_after_the_other(on_port: Container, language: Language) -> None:
    """A container that is to be paused loses its connection, and has another one after that."""
    assert on_port.init(language.log)[0] == 200
    for count in (1, 2, 3):
        assert on_port.run({}) == (200, {})
        assert on_port.log("out") == f"whole\npart\n{SENTINEL}\n" * count
        on_port.socket.close()
        on_port.socket = on_port.connect()


def test_over_tcp_a_zip_is_unpacked(on_port: Container, language: Language) -> None:
    export = "exports.main = main\n" if language.entry == "index.js" else ""
    assert on_port.init(packed({language.entry: language.echo + export}), binary=True)[0] == 200
    assert on_port.run({"x": 1}) == (200, {"x": 1})


def test_init_then_runs(container: Container, language: Language) -> None:
    status, body = container.init(language.echo)
    assert (status, list(body.values())) == (200, [True])
    assert container.run({"x": 1}) == (200, {"x": 1})
    assert container.run([1, "zwei", None]) == (200, [1, "zwei", None])
    assert container.run({"text": "ä\u2028\U0001f600 \x00"}) == (200, {"text": "ä\u2028\U0001f600 \x00"})


def test_init_is_once_and_with_code(container: Container, language: Language) -> None:
    assert container.init("") == (403, {"error": "Missing main/no code to execute."})
    assert container.init(language.echo)[0] == 200
    assert container.init(language.echo) == (403, {"error": "Cannot initialize the action more than once."})
    assert container.run({"x": 1}) == (200, {"x": 1})


def test_environment_of_init_and_of_each_run(container: Container, language: Language) -> None:
    names = {"names": ["__OW_NAMESPACE", "__OW_DEADLINE", "__OW_API_KEY", "SECRET", "__OW_ACTION_NAME"]}
    container.init(language.environ, env={"SECRET": "s", "__OW_ACTION_NAME": "/guest/a"})
    base = {"SECRET": "s", "__OW_ACTION_NAME": "/guest/a"}
    first = container.run(names, namespace="guest", deadline="17", api_key="k")
    assert first == (200, {**base, "__OW_NAMESPACE": "guest", "__OW_DEADLINE": "17", "__OW_API_KEY": "k"})
    second = container.run(names, namespace="guest", deadline=18)
    assert second == (200, {**base, "__OW_NAMESPACE": "guest", "__OW_DEADLINE": "18"})
    status, body = container.run({"names": []}, namespace="a\x00b")
    assert (status, body["error"][:44]) == (400, "The environment cannot hold '__OW_NAMESPACE'")


def test_logs_end_with_a_sentinel_on_a_line_of_its_own_before_the_answer(
    container: Container, language: Language
) -> None:
    container.init(language.log)
    for count in (1, 2):
        assert container.run({}) == (200, {})
        assert container.log("out") == f"whole\npart\n{SENTINEL}\n" * count
        assert container.log("err") == f"e\n{SENTINEL}\n" * count


def test_a_client_that_wants_no_sentinels_is_told_that_the_log_is_complete(
    container: Container, language: Language
) -> None:
    container.init(language.log)
    for _ in range(2):
        container.socket.sendall(
            b"POST /run HTTP/1.1\r\nX-Fallow-Sentinels: none\r\nContent-Length: 12\r\n\r\n" + b'{"value":{}}'
        )
        head = container.socket.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nX-Fallow-Logs: complete\r\n" in head
    assert container.log("out") == "whole\npart" * 2
    assert container.run({}) == (200, {})
    assert container.log("out") == "whole\npart" * 2 + f"whole\npart\n{SENTINEL}\n"
    assert container.log("err") == f"eee\n{SENTINEL}\n"


def test_lines_are_written_while_the_action_runs(container: Container, language: Language) -> None:
    container.init(language.see)
    assert container.run({"log": str(container.folder / "out")}) == (200, {"seen": "line\n"})


def test_the_end_of_the_process_breaks_the_connection(container: Container, language: Language) -> None:
    container.init(language.end)
    with pytest.raises(ConnectionError):
        container.run({})
    assert container.process.wait(LIMIT_S) == 3


@pytest.mark.parametrize(
    ("files", "links", "error"),
    [
        ({"../evil": ""}, {}, "a path that leaves its folder: '../evil'"),
        ({"a/../../evil": ""}, {}, "a path that leaves its folder: 'a/../../evil'"),
        ({"/etc/evil": ""}, {}, "a path that leaves its folder: '/etc/evil'"),
        ({"..\\evil": ""}, {}, "a path that leaves its folder: '..\\"),
        ({}, {"l": "/etc"}, "an entry that is neither file nor folder: 'l'"),
        ({"a": "", "a/b": ""}, {}, "cannot be unpacked"),
    ],
    ids=["parent", "inner parent", "absolute", "backslash", "link", "collision"],
)
def test_a_zip_that_is_refused(
    container: Container, language: Language, files: dict[str, str], links: dict[str, str], error: str
) -> None:
    status, body = container.init(packed({language.entry: language.echo, **files}, links=links), binary=True)
    assert status == 502
    assert error in body["error"]
    assert not (container.folder / "evil").exists()


@pytest.mark.parametrize("code", ["!", base64.b64encode(b"no zip").decode(), base64.b64encode(b"PK\5\6" * 9).decode()])
def test_what_is_no_zip(container: Container, code: str) -> None:
    status, body = container.init(code, binary=True)
    assert (status, "zip" in body["error"]) == (502, True)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(container: Container, language: Language) -> None:
    buffer = io.BytesIO()
    zeros = b"\0" * (1 << 20)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(language.entry, "w") as entry:
        for _ in range(520):
            entry.write(zeros)
    status, body = container.init(base64.b64encode(buffer.getvalue()).decode(), binary=True)
    assert (status, body) == (502, {"error": "The action's zip unpacks to more than 512 MiB."})


def test_a_lone_surrogate_is_escaped(container: Container, language: Language) -> None:
    container.init(language.surrogate)
    assert container.run({}) == (200, {"x": "\ud800"})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"value": {}} x', b"\xff\xfe", b'{"value": NaN}', b"[]", b'{"value": 3}', b"[" * 200_000],
    ids=["empty", "cut", "trailing", "not utf-8", "nan", "array", "number", "deep"],
)
def test_requests_that_are_no_requests(container: Container, language: Language, body: bytes) -> None:
    container.init(language.echo)
    status, answer = container.post("/run", body)
    assert status == 400
    assert answer["error"]
    assert container.run({"x": 1}) == (200, {"x": 1})


def test_http_that_is_refused(container: Container) -> None:
    assert container.post("/else", b"")[0] == 404
    assert container.raw(b"GET /run HTTP/1.1\r\n\r\n")[0] == 404
    assert container.raw(b"POST /run HTTP/1.1\r\n\r\n")[0] == 411
    assert container.socket.recv(1) == b"", "closed: what follows cannot be told from a body"
    heads = {
        b"POST /run HTTP/1.1\r\nContent-Length: -1\r\n\r\n": 400,
        b"POST /run HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n": 413,
        b"POST /run HTTP/1.1\r\nX: " + b"y" * 70_000: 431,
    }
    for head, status in heads.items():
        container.socket.close()
        container.socket = container.connect()
        assert container.raw(head)[0] == status


def test_large_arguments_and_pieces(container: Container, language: Language) -> None:
    container.init(language.lengths)
    status, result = container.run({"text": "ab" * 2_000_000})
    assert (status, result["length"], len(result["text"])) == (200, 4_000_000, 3_000_000)
    body = b'{"value": {"text": "abc"}}'
    for piece in (b"POST /run HTTP/1.1\r\nConte", b"nt-Length: 26\r", b"\n\r\n" + body[:5]):
        container.socket.sendall(piece)
    assert container.raw(body[5:]) == (200, {"length": 3, "text": "abc"})


def test_requests_sent_together_are_answered_in_turn(container: Container, language: Language) -> None:
    container.init(language.echo)
    body = b'{"value":{"x":1}}'
    one = b"POST /run HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    container.socket.sendall(one * 3)
    data = b""
    while data.count(b'{"x":1}') < 3:
        chunk = container.socket.recv(65536)
        assert chunk
        data += chunk
    assert data.count(b"HTTP/1.1 200 OK") == 3
