"""The server inside a Python container: `python -S -E server.py --port N | --socket PATH [options]`.

It speaks OpenWhisk's action protocol (`POST /init` once, then `POST /run`) as HTTP/1.1 over TCP or the unix socket at
PATH, one connection and one request at a time, and answers as OpenWhisk's ActionLoop Python runtime does: what an
action raises is 200 `{"error": text}` with the traceback in the log, and the container goes on serving. The text of a
log reaches file descriptors 1 and 2 line by line; after each run, and after an init that failed, the sentinel line ends
both streams *before* the answer is sent, so whoever has the answer can already read the whole log. A client that does
so needs no sentinels: where a /run has the header `X-Fallow-Sentinels: none`, none are written, and the answer says
`X-Fallow-Logs: complete`.

A container that runs out of memory exits with EXIT_MEMORY. An action that ends the process (`os._exit`) breaks the
connection. Code and zips go into the folder PATH.action, which whoever owns the socket's folder removes with it, or
with `--port` into /tmp/action; a zip's `virtualenv` folder is ignored, and `-S` keeps the host's packages out: an
action has the standard library, what stands in the folder that `--libraries` names, and what it brings. `--memory-mb N`
limits the memory and `--die-with-stdin` ends the process when standard input closes: a Docker container needs neither.

A container should be there in a few milliseconds (and in less where spawner.py forks it). So this file, which Python
compiles at every start, is short and the rest is in modules that are compiled once; and nothing is imported that an
echo does not need: `_socket` instead of `socket` (which brings selectors and enum), no typing, no argparse, no json;
zipfile and asyncio when an action needs them.
"""

from __future__ import annotations

import _socket
import os
import sys

# Run as a script this file has no package: the folder that holds `functions` is four levels up.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path[0] = ROOT

from functions.runtimes.python import container  # noqa: E402
from functions.runtimes.python.logs import LogStreams  # noqa: E402
from functions.runtimes.python.runtime import Runtime  # noqa: E402

USAGE = "usage: server.py --port N | --socket PATH [--memory-mb N] [--die-with-stdin] [--libraries DIR]"
PORT_FOLDER = "/tmp/action"


def parse_arguments(arguments: list[str]) -> dict[str, str]:
    """Values by option, "" for a flag; exits with a usage line."""
    given: dict[str, str] = {}
    rest = iter(arguments)
    for name in rest:
        if name == "--die-with-stdin":
            given[name] = ""
        elif name in ("--port", "--socket", "--memory-mb", "--libraries"):
            given[name] = next(rest, "")
        else:
            sys.exit(USAGE)
    numbers = [given[name] for name in ("--port", "--memory-mb") if name in given]
    if "" in (given.get("--socket", "x"), given.get("--libraries", "x")) or not all(n.isdigit() for n in numbers):
        sys.exit(USAGE)
    if ("--port" in given) is ("--socket" in given):
        sys.exit(USAGE)
    return given


def listen(given: dict[str, str]) -> tuple[_socket.socket, str]:
    """The listening socket, and the folder for an action's code."""
    if "--port" in given:
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", int(given["--port"])))
        folder = PORT_FOLDER
    else:
        path = os.path.abspath(given["--socket"])
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        listener.bind(path)
        folder = path + ".action"
    listener.listen(8)
    return listener, folder


def main() -> None:
    given = parse_arguments(sys.argv[1:])
    os.closerange(3, 1024)  # nothing of whoever started this
    if "--die-with-stdin" in given:
        container.die_with_stdin()
    if "--memory-mb" in given:
        container.limit_memory(int(given["--memory-mb"]))
    sys.dont_write_bytecode = True
    container.leave_no_names(ROOT)
    if "--libraries" in given:
        sys.path.append(os.path.abspath(given["--libraries"]))
    os.umask(0o077)
    listener, folder = listen(given)
    runtime = Runtime(folder, LogStreams())
    while True:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept() itself calls
        conn = _socket.socket(fileno=fd)
        if "--port" in given:
            conn.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        container.serve(conn, runtime)


if __name__ == "__main__":
    main()
