"""The Node.js container's server, as a process: what is its own beside the contract of all runtimes."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.containers import LIMIT_S, SENTINEL, Container, packed

SERVER = Path(__file__).parents[2] / "functions" / "runtimes" / "nodejs" / "server.cjs"
ECHO = "function main(args) { return args }"


@pytest.fixture
def container() -> Iterator[Container]:
    started = Container("node", str(SERVER))
    yield started
    started.close()


def test_the_measured_answers_of_the_official_runtime(container: Container) -> None:
    assert container.run({}) == (403, {"error": "System not initialized."})
    assert container.init(ECHO) == (200, {"OK": True})


@pytest.mark.parametrize(
    ("code", "main"),
    [
        ("function main(a) { return { went: a.x } }", "main"),
        ("const main = async (a) => ({ went: a.x })", "main"),
        ("exports.main = (a) => ({ went: a.x })", "main"),
        ("module.exports = { main: (a) => ({ went: a.x }) }", "main"),
        ("exports.main = (a) => ({ went: a.x })", "exports.main"),
        ("module.exports.go = (a) => ({ went: a.x })", "module.exports.go"),
        ("exports.deep = { go: (a) => ({ went: a.x }) }", "deep.go"),
        ("exports.default = (a) => ({ went: a.x })", "default"),
        ("'use strict'; class Y { static go(a) { return { went: a.x } } } // no newline at the end", "Y.go"),
        ("return void (exports.main = (a) => ({ went: a.x }))", "main"),
        ("import fs from 'fs'\nexport async function main(a) { return { went: fs ? a.x : 0 } }", "main"),
        ("await 1\nexport default (a) => ({ went: import.meta.url.endsWith('.mjs') ? a.x : 0 })", "default"),
        ("function grüße(a) { return { went: a.x } }", "grüße"),
    ],
)
def test_main_is_a_name_that_is_visible_or_exported(container: Container, code: str, main: str) -> None:
    assert container.init(code, main=main) == (200, {"OK": True})
    assert container.run({"x": 7}) == (200, {"went": 7})
    assert container.run({"x": 8}) == (200, {"went": 8})


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("const main = () => {}", {}),
        ("const main = async () => undefined", {}),
        ("const main = () => new Promise((resolve) => setTimeout(() => resolve([1]), 1))", [1]),
        ("const main = () => ({ then: (resolve) => resolve({ thenable: true }) })", {"thenable": True}),
        ("const main = () => Promise.reject({ a: 1 })", {"error": {"a": 1}}),
        ("const main = () => Promise.reject('no')", {"error": "no"}),
        ("const main = () => Promise.reject()", {"error": {}}),
        ("const main = () => ({ error: 'mine' })", {"error": "mine"}),
        ("const main = () => ({ toJSON: () => [2] })", [2]),
    ],
)
def test_results(container: Container, code: str, result: Any) -> None:
    container.init(code)
    assert container.run({}) == (200, result)
    assert container.run({}) == (200, result), "none of these ends the container"


def test_a_rejected_error_is_told_with_what_json_would_leave_out(container: Container) -> None:
    container.init("const main = async () => { throw Object.assign(new TypeError('boom'), { code: 'E1', more: 2 }) }")
    status, result = container.run({})
    error = result["error"]
    assert (status, error["name"], error["message"], error["code"], error["more"]) == (
        *(200, "TypeError", "boom"),
        *("E1", 2),
    )
    assert "main__.js:1:" in error["stack"]
    assert str(SERVER.parent) not in error["stack"]
    assert container.run({})[0] == 200


def test_a_rejected_error_with_a_circle(container: Container) -> None:
    container.init("const main = async () => { const e = new Error('boom'); e.self = e; throw e }")
    status, result = container.run({})
    assert (status, result["error"]["message"], "self" in result["error"]) == (200, "boom", False)


@pytest.mark.parametrize("value", ["'text'", "null", "3", "() => 1", "new Date(0)", "Promise.resolve(true)", "1n"])
def test_only_objects_and_arrays_are_results(container: Container, value: str) -> None:
    container.init(f"const main = () => ({value})")
    for _ in range(2):
        assert container.run({}) == (502, {"error": "The action did not return a dictionary."})


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("{ x: 1n }", "The action's result is not JSON: TypeError: Do not know how to serialize a BigInt"),
        ("loop", "The action's result is not JSON: TypeError: Converting circular structure to JSON"),
        ("deep", "The action's result is nested too deeply."),
    ],
)
def test_results_that_json_cannot_say(container: Container, value: str, error: str) -> None:
    code = "const loop = []; loop.push(loop)\nlet deep = []\nfor (let i = 0; i < 200000; i++) deep = [deep]\n"
    container.init(f"{code}const main = () => ({value})")
    for _ in range(2):
        status, body = container.run({})
        assert (status, body["error"][: len(error)]) == (502, error)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("throw new Error('boom')", "Error: boom"),
        ("throw 'text'", "text"),
        ("throw Object.create(null)", "an object without a text"),
        ("return main(args)", "RangeError: Maximum call stack size exceeded"),
        ("nowhere()", "ReferenceError: nowhere is not defined"),
    ],
)
def test_what_is_thrown_stops_the_container(container: Container, statement: str, error: str) -> None:
    container.init(f"function main(args) {{\n  console.log('said')\n  {statement}\n}}")
    assert container.run({}) == (502, {"error": f"An error has occurred: {error}"})
    assert container.log("out").endswith(f"said\n{SENTINEL}\n")
    assert container.log("err").endswith(f"{SENTINEL}\n")
    assert str(SERVER.parent) not in container.log("err"), "the server's own frames are not shown"
    for _ in range(2):
        assert container.run({}) == (403, {"error": "System not ready, status is stopped."})


def test_an_error_that_nobody_caught_ends_the_process_and_is_in_the_log(container: Container) -> None:
    container.init("const main = () => new Promise(() => setTimeout(() => { throw new Error('later') }, 1))")
    with pytest.raises(ConnectionError):
        container.run({})
    assert container.process.wait(LIMIT_S) == 1
    assert "Error: later" in container.log("err")


@pytest.mark.parametrize(
    ("code", "main", "error"),
    [
        ("function main( {", "main", "Initialization has failed due to: SyntaxError: Unexpected"),
        ("require('nowhere')", "main", "Initialization has failed due to: Error: Cannot find module 'nowhere'"),
        ("export const main = ;", "main", "Initialization has failed due to: SyntaxError: Unexpected token"),
        ("export const other = 1", "main", "Action entrypoint 'main' is not a function."),
        ("throw 3", "main", "Initialization has failed due to: 3"),
        ("const x = 1", "main", "Action entrypoint 'main' is not a function."),
        ("const main = 3", "main", "Action entrypoint 'main' is not a function."),
        ("const main = 3", "a; evil()", "Action entrypoint 'a; evil()' is not a name."),
    ],
)
def test_code_that_does_not_load(container: Container, code: str, main: str, error: str) -> None:
    status, body = container.init(code, main=main)
    assert (status, body["error"][: len(error)]) == (502, error)
    assert container.log("out") == SENTINEL + "\n"
    assert container.log("err").endswith(SENTINEL + "\n")
    assert container.run({}) == (403, {"error": "System not ready, status is stopped."})
    assert container.init(ECHO) == (403, {"error": "System not ready, status is stopped."})


def test_a_syntax_error_is_shown_with_its_line_in_the_log(container: Container) -> None:
    container.init("const a = 1\nconst b = ;\n")
    assert "main__.js:2\nconst b = ;\n" in container.log("err")


def test_packages_of_the_host_are_not_seen(container: Container) -> None:
    host = container.folder / "node_modules" / "hosted"
    host.mkdir(parents=True)
    (host / "index.js").write_text("module.exports = 1")
    (container.folder / "package.json").write_text('{"type": "module"}')
    container.init("exports.main = (a) => ({ v: require(a.name) === undefined ? 0 : 1 })")
    assert container.run({"name": "fs"}) == (200, {"v": 1})
    status, body = container.run({"name": "hosted"})
    assert (status, "Cannot find module 'hosted'" in body["error"]) == (502, True)


def test_a_large_log_is_there_before_the_answer(container: Container) -> None:
    container.init(
        "function main({ n }) {\n  process.stdout.cork(); console.log('x'.repeat(n))\n"
        "  process.stderr.write('y'.repeat(n)); return {}\n}"
    )
    assert container.run({"n": 3_000_000}) == (200, {})
    assert container.log("out") == "x" * 3_000_000 + f"\n{SENTINEL}\n"
    assert container.log("err") == "y" * 3_000_000 + f"\n{SENTINEL}\n"


def test_an_action_cannot_take_the_streams_from_the_next_run(container: Container) -> None:
    container.init(
        "function main({ spoil }) {\n  console.log('said')\n"
        "  if (spoil) { process.stdout.end('last'); process.stdout.destroy(); process.stdout = null\n"
        "    require('fs').closeSync(1) }\n  return {}\n}"
    )
    assert container.run({"spoil": True}) == (200, {})
    assert container.run({}) == (200, {})
    assert container.log("out") == f"said\nlast\n{SENTINEL}\nsaid\n{SENTINEL}\n"


def test_a_zip_with_its_own_packages(container: Container) -> None:
    files = {
        "package.json": json.dumps({"name": "x", "main": "lib/start.js"}),
        "lib/start.js": "const part = require('./part'); const own = require('own')\n"
        "exports.main = () => ({ part: part.value, own, ls: require('fs').readdirSync('.').sort() })\n",
        "lib/part.js": "exports.value = 42\n",
        "node_modules/own/package.json": '{"main": "code.js"}',
        "node_modules/own/code.js": "module.exports = 'bundled'\n",
        "data/": "",
    }
    assert container.init(packed(files), binary=True) == (200, {"OK": True})
    ls = ["data", "lib", "node_modules", "package.json"]
    assert container.run({}) == (200, {"part": 42, "own": "bundled", "ls": ls})


@pytest.mark.parametrize(
    ("files", "main"),
    [
        ({"index.js": "exports.main = (a) => a"}, "main"),
        ({"index.js": "exports.deep = { go: (a) => a }"}, "deep.go"),
        ({"index.js": "", "other.js": "exports.go = (a) => a"}, "other.go"),
        ({"other.js": "exports.go = (a) => a"}, "other.go"),
        ({"package.json": "{}", "index.js": "module.exports = { main: (a) => a }"}, "main"),
        ({"package.json": '{"type": "module"}', "index.js": "export const main = async (a) => a"}, "main"),
        ({"package.json": '{"main": "a.mjs"}', "a.mjs": "await 1\nexport function main(a) { return a }"}, "main"),
    ],
)
def test_where_a_zip_has_its_main(container: Container, files: dict[str, str], main: str) -> None:
    assert container.init(packed(files), main=main, binary=True) == (200, {"OK": True})
    assert container.run({"x": 1}) == (200, {"x": 1})


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"main.js": ECHO}, "Zipped actions must contain either package.json or index.js at the root."),
        ({"index.js": ECHO}, "Action entrypoint 'main' is not a function."),
        ({"index.js": "syntax error"}, "Initialization has failed due to: SyntaxError: Unexpected identifier"),
        ({"package.json": "{}"}, "Initialization has failed due to: Error: Cannot find module"),
    ],
)
def test_a_zip_without_a_main(container: Container, files: dict[str, str], error: str) -> None:
    status, body = container.init(packed(files), binary=True)
    assert (status, body["error"][: len(error)]) == (502, error)


def stored() -> bytearray:
    """A zip of one file, stored, for a test to damage: header at 0, directory after it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.js", "exports.main = (a) => a")
    return bytearray(buffer.getvalue())


def test_a_stored_zip_with_a_comment_and_modes(container: Container) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"PK\x05\x06 no end" * 20
        archive.writestr("index.js", "exports.main = () => ({ m: require('fs').statSync('run').mode & 0o777 })")
        entry = zipfile.ZipInfo("run")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, "#!/bin/sh")
    assert container.init(base64.b64encode(buffer.getvalue()).decode(), binary=True)[0] == 200
    assert container.run({}) == (200, {"m": 0o700})


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        (-6, "<I:4294967295", "Zip64"),
        (-12, "<H:65535", "Zip64"),
        (-12, "<H:2", "its directory"),
        (-6, "<I:7", "its directory is damaged"),
        ("central+8", "<H:1", "is encrypted"),
        ("central+10", "<H:12", "a method other than deflate"),
        ("central+16", "<I:1", "'index.js' is damaged"),
        ("central+20", "<I:5", "'index.js' is damaged"),
        ("central+24", "<I:5", "'index.js' is damaged"),
        ("central+28", "<H:60000", "its directory is cut off"),
        ("central+42", "<I:4000000000", "'index.js' is not where its directory says"),
        (26, "<H:60000", "'index.js' is damaged"),
    ],
)
def test_a_damaged_zip(container: Container, at: int | str, value: str, error: str) -> None:
    data = stored()
    position = data.index(b"PK\1\2") + int(at.removeprefix("central")) if isinstance(at, str) else at
    form, _, number = value.partition(":")
    struct.pack_into(form, data, position, int(number))
    status, body = container.init(base64.b64encode(data).decode(), binary=True)
    assert status == 502
    assert error in body["error"]


def test_a_file_that_inflates_to_more_than_its_directory_says(container: Container) -> None:
    data = bytearray(base64.b64decode(packed({"index.js": "x" * 5_000_000})))
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 100)
    status, body = container.init(base64.b64encode(data).decode(), binary=True)
    assert (status, "'index.js' is damaged" in body["error"]) == (502, True)
