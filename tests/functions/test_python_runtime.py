"""The Python container's server, as a process, spoken to over its socket as the invoker does."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).parents[2] / "functions" / "runtimes" / "python" / "server.py"
SENTINEL = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
LIMIT_S = 20.0


class Container:
    """One server process in a folder of its own."""

    def __init__(self, *options: str, stdin: int = subprocess.DEVNULL) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
        self.path = self.folder / "s"
        self.logs = {name: (self.folder / name).open("w") for name in ("out", "err")}
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(SERVER), "--socket", str(self.path), *options],
            stdin=stdin,
            stdout=self.logs["out"],
            stderr=self.logs["err"],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
        self.socket = self.connect()

    def connect(self) -> socket.socket:
        """Refused connections are tried again, as the invoker does, until the server listens or is dead."""
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(LIMIT_S)
            try:
                client.connect(str(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                client.close()
                assert self.process.poll() is None, self.log("err")
                os.sched_yield()
            else:
                return client

    def raw(self, data: bytes) -> tuple[int, Any]:
        self.socket.sendall(data)
        return self.answer()

    def answer(self) -> tuple[int, Any]:
        """Raises ConnectionError where the server goes away instead."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        while len(body) < length:
            body += self.socket.recv(1 << 20)
        assert len(body) == length
        return int(head.split()[1]), json.loads(body)

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return self.raw(f"POST {path} HTTP/1.1\r\nHost: c\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    def init(self, code: str, **value: Any) -> tuple[int, Any]:
        return self.post("/init", json.dumps({"value": {"name": "a", "main": "main", "code": code, **value}}).encode())

    def run(self, value: Any, **top: Any) -> tuple[int, Any]:
        return self.post("/run", json.dumps({"value": value, **top}).encode())

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait(LIMIT_S)
        if self.process.stdin:
            self.process.stdin.close()
        for log in self.logs.values():
            log.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def container() -> Iterator[Container]:
    made = Container()
    yield made
    made.close()


@pytest.fixture
def small() -> Iterator[Container]:
    made = Container("--memory-mb", "64")
    yield made
    made.close()


def packed(files: dict[str, str], *, links: dict[str, str] | None = None) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return base64.b64encode(buffer.getvalue()).decode()


ECHO = "def main(args):\n    return args\n"


def test_init_then_runs(container: Container) -> None:
    assert container.init(ECHO) == (200, {"ok": True})
    assert container.run({"x": 1}) == (200, {"x": 1})
    assert container.run([1, "zwei", None]) == (200, [1, "zwei", None])
    assert container.run({"text": "ä\u2028\U0001f600 \x00"}) == (200, {"text": "ä\u2028\U0001f600 \x00"})


def test_the_measured_answers_of_the_official_runtime(container: Container) -> None:
    assert container.run({}) == (500, {"error": "no action defined yet"})
    assert container.init("") == (403, {"error": "Missing main/no code to execute."})
    assert container.init(ECHO)[0] == 200
    assert container.init(ECHO) == (403, {"error": "Cannot initialize the action more than once."})


@pytest.mark.parametrize("value", ["'text'", "None", "3", "(1, 2)"])
def test_only_dictionaries_and_arrays_are_results(container: Container, value: str) -> None:
    container.init(f"def main(args):\n    return {value}\n")
    assert container.run({}) == (502, {"error": "The action did not return a dictionary or array."})


def test_an_exception_is_an_error_result_and_the_traceback_is_in_the_log(container: Container) -> None:
    container.init(
        "def inner():\n    raise ValueError('boom')\ndef main(args):\n    return inner() if args else args\n"
    )
    assert container.run({"x": 1}) == (200, {"error": "boom"})
    log = container.log("err")
    assert "raise ValueError('boom')" in log, "the lines of the source are shown"
    assert str(SERVER.parent) not in log, "the server's own frames are not"
    assert log.endswith(SENTINEL + "\n")
    assert container.run({}) == (200, {})


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise KeyError", "KeyError"),
        ("import sys; sys.exit(3)", "The action called sys.exit(3)."),
        ("raise KeyboardInterrupt('stop')", "stop"),
        ("return main(args)", "maximum recursion depth exceeded"),
    ],
)
def test_whatever_is_raised_the_container_goes_on(container: Container, statement: str, error: str) -> None:
    container.init(f"def main(args):\n    {statement}\n")
    for _ in range(2):
        status, result = container.run({})
        assert (status, result["error"][: len(error)]) == (200, error)


def test_an_error_that_cannot_say_what_it_is(container: Container) -> None:
    container.init("class E(Exception):\n    def __str__(self): raise E\ndef main(args):\n    raise E\n")
    assert container.run({}) == (200, {"error": "E"})


def test_async_main_and_main_by_name(container: Container) -> None:
    code = "import asyncio\nasync def go(args):\n    await asyncio.sleep(0)\n    return {'went': args['x']}\n"
    assert container.init(code, main="go")[0] == 200
    assert container.run({"x": 7}) == (200, {"went": 7})
    assert container.run({"x": 8}) == (200, {"went": 8})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def main(:\n", "The action's code did not load: SyntaxError: "),
        ("import nowhere\n", "The action's code did not load: ModuleNotFoundError: No module named 'nowhere'"),
        ("raise SystemExit(1)\n", "The action's code did not load: SystemExit: "),
        ("x = 1\n", "The action's code has no function 'main'."),
        ("main = 3\n", "The action's code has no function 'main'."),
    ],
)
def test_code_that_does_not_load(container: Container, code: str, error: str) -> None:
    status, body = container.init(code)
    assert (status, body["error"][: len(error)]) == (502, error)
    assert container.log("out") == SENTINEL + "\n"
    assert container.log("err").endswith(SENTINEL + "\n")
    assert container.run({})[0] == 500


def test_environment_of_init_and_of_each_run(container: Container) -> None:
    code = "import os\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k in args['names']}\n"
    names = {"names": ["__OW_NAMESPACE", "__OW_DEADLINE", "__OW_API_KEY", "SECRET", "__OW_ACTION_NAME"]}
    container.init(code, env={"SECRET": "s", "__OW_ACTION_NAME": "/guest/a"})
    base = {"SECRET": "s", "__OW_ACTION_NAME": "/guest/a"}
    first = container.run(names, namespace="guest", deadline="17", api_key="k")
    assert first == (200, {**base, "__OW_NAMESPACE": "guest", "__OW_DEADLINE": "17", "__OW_API_KEY": "k"})
    second = container.run(names, namespace="guest", deadline=18)
    assert second == (200, {**base, "__OW_NAMESPACE": "guest", "__OW_DEADLINE": "18"})
    status, body = container.run({}, namespace="a\x00b")
    assert (status, body["error"].split(":")[0]) == (400, "The environment cannot hold '__OW_NAMESPACE'")


def test_logs_end_with_a_sentinel_on_a_line_of_its_own_before_the_answer(container: Container) -> None:
    code = "import sys\ndef main(args):\n    print('whole')\n    print('part', end='')\n    sys.stderr.write('e')\n"
    code += "    return {}\n"
    container.init(code)
    for count in (1, 2):
        assert container.run({}) == (200, {})
        assert container.log("out") == f"whole\npart\n{SENTINEL}\n" * count
        assert container.log("err") == f"e\n{SENTINEL}\n" * count


def test_a_client_that_wants_no_sentinels_is_told_that_the_log_is_complete(container: Container) -> None:
    container.init("def main(args):\n    print('part', end='')\n    return {}\n")
    for _ in range(2):
        container.socket.sendall(
            b"POST /run HTTP/1.1\r\nX-Fallow-Sentinels: none\r\nContent-Length: 12\r\n\r\n" + b'{"value":{}}'
        )
        head = container.socket.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nX-Fallow-Logs: complete\r\n" in head
    assert container.log("out") == "partpart"
    assert container.run({}) == (200, {})
    assert container.log("out") == f"partpartpart\n{SENTINEL}\n"
    assert container.log("err") == f"{SENTINEL}\n"


def test_lines_are_written_while_the_action_runs(container: Container) -> None:
    code = "def main(args):\n    print('line')\n    return {'seen': open(args['log']).read()}\n"
    container.init(code)
    assert container.run({"log": str(container.folder / "out")}) == (200, {"seen": "line\n"})


def test_an_action_that_closes_its_streams_loses_them_for_one_run_only(container: Container) -> None:
    code = (
        "import os, sys\ndef main(args):\n    print('said')\n"
        "    if 'break' in args:\n        sys.stdout = None\n        os.close(1)\n    return {}\n"
    )
    container.init(code)
    assert container.run({"break": 1}) == (200, {})
    assert container.run({}) == (200, {})
    assert container.log("out") == f"said\n{SENTINEL}\n" * 2


def test_the_end_of_the_process_breaks_the_connection(container: Container) -> None:
    container.init("import os\ndef main(args):\n    os._exit(3)\n")
    with pytest.raises(ConnectionError):
        container.run({})
    assert container.process.wait(LIMIT_S) == 3


def test_a_forked_child_that_comes_back_does_not_answer(container: Container) -> None:
    container.init("import os\ndef main(args):\n    pid = os.fork()\n    return {'n': args['n'], 'first': pid > 0}\n")
    for n in range(3):
        assert container.run({"n": n}) == (200, {"n": n, "first": True})


def test_memory_exhausted_is_exit_code_86(small: Container) -> None:
    small.init("def main(args):\n    return {'n': len(bytearray(args['mb'] << 20))}\n")
    assert small.run({"mb": 16}) == (200, {"n": 16 << 20})
    with pytest.raises(ConnectionError):
        small.run({"mb": 200})
    assert small.process.wait(LIMIT_S) == 86
    assert small.log("err") == f"{SENTINEL}\nMemoryError: the memory limit was met\n{SENTINEL}\n"


def test_the_container_dies_with_the_pipe_at_its_standard_input() -> None:
    container = Container("--die-with-stdin", stdin=subprocess.PIPE)
    try:
        container.init("import sys, time\ndef main(args):\n    return {'stdin': sys.stdin.read()}\n")
        assert container.run({}) == (200, {"stdin": ""}), "the action does not see the pipe"
        assert container.process.stdin is not None
        container.process.stdin.close()
        assert container.process.wait(LIMIT_S) == -9
    finally:
        container.close()


def test_a_zip_with_modules_and_data(container: Container) -> None:
    files = {
        "__main__.py": "from lib.part import value\nimport os\n"
        "def main(args):\n    return {'v': value, 'd': open('data.txt').read(), 'ls': sorted(os.listdir('.'))}\n",
        "lib/__init__.py": "",
        "lib/part.py": "value = 42\n",
        "data.txt": "here",
        "virtualenv/bin/activate_this.py": "raise RuntimeError\n",
    }
    assert container.init(packed(files), binary=True) == (200, {"ok": True})
    assert container.run({}) == (200, {"v": 42, "d": "here", "ls": ["__main__.py", "data.txt", "lib"]})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (packed({"__main__.py": ECHO, "../evil.py": ""}), "a path that leaves its folder: '../evil.py'"),
        (packed({"__main__.py": ECHO, "a/../../evil": ""}), "a path that leaves its folder: 'a/../../evil'"),
        (packed({"__main__.py": ECHO, "/etc/evil": ""}), "a path that leaves its folder: '/etc/evil'"),
        (packed({"__main__.py": ECHO}, links={"l": "/etc"}), "an entry that is neither file nor folder: 'l'"),
        (packed({"main.py": ECHO}), "no __main__.py at its top"),
        (packed({"__main__.py": ECHO, "a": "", "a/b": ""}), "cannot be unpacked"),
        (base64.b64encode(b"no zip").decode(), "not a base64 zip"),
        ("!", "not a base64 zip"),
    ],
    ids=["parent", "inner parent", "absolute", "link", "no main", "collision", "no zip", "no base64"],
)
def test_a_zip_that_is_refused(container: Container, code: str, error: str) -> None:
    status, body = container.init(code, binary=True)
    assert status == 502
    assert error in body["error"]
    assert not (container.folder / "evil.py").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(container: Container) -> None:
    buffer = io.BytesIO()
    zeros = b"\0" * (1 << 20)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("__main__.py", "w") as entry:
        for _ in range(520):
            entry.write(zeros)
    status, body = container.init(base64.b64encode(buffer.getvalue()).decode(), binary=True)
    assert (status, body) == (502, {"error": "The action's zip unpacks to more than 512 MiB."})


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("float('nan')", "Out of range float values"),
        ("{1, 2}", "Object of type set is not JSON serializable"),
        ("{(1, 2): 3}", "keys must be str"),
        ("loop", "Circular reference"),
        ("deep", "nested too deeply"),
    ],
)
def test_results_that_json_cannot_say(container: Container, expression: str, error: str) -> None:
    code = (
        "loop = []\nloop.append(loop)\ndeep = []\nfor _ in range(200000):\n    deep = [deep]\n"
        f"def main(args):\n    return {{'x': {expression}}}\n"
    )
    container.init(code)
    status, body = container.run({})
    assert status == 502
    assert error in body["error"]
    assert container.run({})[0] == 502, "it still serves"


def test_a_lone_surrogate_is_escaped(container: Container) -> None:
    container.init("def main(args):\n    print('\\ud800')\n    return {'x': '\\ud800'}\n")
    assert container.run({}) == (200, {"x": "\ud800"})
    assert container.log("out") == f"\\ud800\n{SENTINEL}\n"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"value": {}} x', b"\xff\xfe", b'{"value": NaN}', b"[]", b'{"value": 3}', b"[" * 200_000],
    ids=["empty", "cut", "trailing", "not utf-8", "nan", "array", "number", "deep"],
)
def test_requests_that_are_no_requests(container: Container, body: bytes) -> None:
    container.init(ECHO)
    status, answer = container.post("/run", body)
    assert status == 400
    assert answer["error"]
    assert container.run({"x": 1}) == (200, {"x": 1})


def test_http_that_is_refused(container: Container) -> None:
    assert container.post("/else", b"")[0] == 404
    assert container.raw(b"GET /run HTTP/1.1\r\n\r\n")[0] == 404
    assert container.raw(b"POST /run HTTP/1.1\r\n\r\n")[0] == 411
    assert container.socket.recv(1) == b"", "closed: what follows cannot be told from a body"
    for head in (b"POST /run HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /run HTTP/1.1\r\nX: " + b"y" * 70_000):
        container.socket.close()
        container.socket = container.connect()
        assert container.raw(head)[0] in (400, 431)


def test_large_arguments_and_pieces(container: Container) -> None:
    container.init("def main(args):\n    return {'length': len(args['text']), 'text': args['text'][:3_000_000]}\n")
    status, result = container.run({"text": "ab" * 2_000_000})
    assert (status, result["length"], len(result["text"])) == (200, 4_000_000, 3_000_000)
    body = b'{"value": {"text": "abc"}}'
    for piece in (b"POST /run HTTP/1.1\r\nConte", b"nt-Length: 26\r", b"\n\r\n" + body[:5]):
        container.socket.sendall(piece)
    assert container.raw(body[5:]) == (200, {"length": 3, "text": "abc"})


def test_two_requests_in_one_packet(container: Container) -> None:
    container.init(ECHO)
    request = b'POST /run HTTP/1.1\r\nContent-Length: 18\r\n\r\n{"value": {"a":1}}'
    container.socket.sendall(request * 2)
    expected = b'{"a":1}'
    data = b""
    while data.count(expected) < 2:
        chunk = container.socket.recv(4096)
        assert chunk
        data += chunk


def test_a_client_that_goes_away_is_followed_by_another(container: Container) -> None:
    container.init(ECHO)
    container.socket.sendall(b"POST /run HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    container.socket.close()
    container.socket = container.connect()
    assert container.run({"x": 1}) == (200, {"x": 1})


def test_an_action_meets_its_own_modules_and_folder(container: Container) -> None:
    code = (
        "import os, sys\ndef main(args):\n"
        "    return {'cwd': os.getcwd(), 'ours': [m for m in sys.modules if m.startswith('functions')],\n"
        "            'name': __name__, 'path': sys.path[0], 'fds': sorted(map(int, os.listdir('/proc/self/fd')))[-1]}\n"
    )
    container.init(code)
    _, result = container.run({})
    assert result["cwd"] == result["path"] == str(container.folder / "s.action")
    assert result["ours"] == []
    assert result["name"] == "main__"
    assert result["fds"] < 10


def test_the_socket_is_its_owners_only(container: Container) -> None:
    assert stat.S_IMODE(container.path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("arguments", [[], ["--socket"], ["--socket", "/tmp/x", "--memory-mb", "lots"], ["--what"]])
def test_wrong_arguments_get_a_usage_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(SERVER), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: server.py --socket PATH")
