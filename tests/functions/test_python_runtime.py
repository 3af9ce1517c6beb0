"""The Python container's server, as a process, spoken to over its socket as the invoker does."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containers import LIMIT_S, SENTINEL, Container, packed

SERVER = Path(__file__).parents[2] / "functions" / "runtimes" / "python" / "server.py"


def made(*options: str, stdin: int = subprocess.DEVNULL) -> Container:
    return Container(sys.executable, "-S", "-E", str(SERVER), *options, stdin=stdin)


@pytest.fixture
def container() -> Iterator[Container]:
    started = made()
    yield started
    started.close()


@pytest.fixture
def small() -> Iterator[Container]:
    started = made("--memory-mb", "64")
    yield started
    started.close()


ECHO = "def main(args):\n    return args\n"


def test_the_measured_answers_of_the_official_runtime(container: Container) -> None:
    assert container.run({}) == (500, {"error": "no action defined yet"})
    assert container.init(ECHO) == (200, {"ok": True})


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


def test_an_action_that_closes_its_streams_loses_them_for_one_run_only(container: Container) -> None:
    code = (
        "import os, sys\ndef main(args):\n    print('said')\n"
        "    if 'break' in args:\n        sys.stdout = None\n        os.close(1)\n    return {}\n"
    )
    container.init(code)
    assert container.run({"break": 1}) == (200, {})
    assert container.run({}) == (200, {})
    assert container.log("out") == f"said\n{SENTINEL}\n" * 2


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
    container = made("--die-with-stdin", stdin=subprocess.PIPE)
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


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--socket"],
        ["--socket", "/tmp/x", "--memory-mb", "lots"],
        ["--port", "http"],
        ["--port", "8080", "--socket", "/tmp/x"],
        ["--what"],
    ],
)
def test_wrong_arguments_get_a_usage_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(SERVER), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: server.py --port N | --socket PATH")


def test_a_zip_without_a_main_file_is_refused(container: Container) -> None:
    answer = container.init(packed({"main.py": ECHO}), binary=True)
    assert answer == (502, {"error": "The action's zip has no __main__.py at its top."})
