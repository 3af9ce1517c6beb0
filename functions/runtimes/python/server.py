"""The server inside a Python container: `python -S -E server.py --socket PATH [--memory-mb N] [--die-with-stdin]`.

It speaks OpenWhisk's action protocol (`POST /init` once, then `POST /run`) as HTTP/1.1 over the unix socket at PATH,
one connection and one request at a time, and answers as OpenWhisk's ActionLoop Python runtime does: what an action
raises is 200 `{"error": text}` with the traceback in the log, and the container goes on serving. The text of a log
reaches file descriptors 1 and 2 line by line; after each run, and after an init that failed, the sentinel line ends
both streams *before* the answer is sent, so whoever has the answer can already read the whole log. A client that does
so needs no sentinels: where a /run has the header `X-Fallow-Sentinels: none`, none are written, and the answer says
`X-Fallow-Logs: complete`.

A container that runs out of memory exits with EXIT_MEMORY. An action that ends the process (`os._exit`) breaks the
connection. Code and zips go into the folder PATH.action, which whoever owns the socket's folder removes with it; a
zip's `virtualenv` folder is ignored, and `-S` keeps the host's packages out: an action has the standard library and
what it brings.

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


def parse_arguments(arguments: list[str]) -> tuple[str, int | None, bool]:
    """(socket path, memory_mb or None, die with stdin); exits with a usage line."""
    path, memory_mb, with_stdin = "", None, False
    rest = iter(arguments)
    for name in rest:
        if name == "--die-with-stdin":
            with_stdin = True
        elif name == "--socket":
            path = next(rest, "")
        elif name == "--memory-mb" and (text := next(rest, "")).isdigit():
            memory_mb = int(text)
        else:
            path = ""
            break
    if not path:
        sys.exit("usage: server.py --socket PATH [--memory-mb N] [--die-with-stdin]")
    return os.path.abspath(path), memory_mb, with_stdin


def main() -> None:
    path, memory_mb, with_stdin = parse_arguments(sys.argv[1:])
    os.closerange(3, 1024)  # nothing of whoever started this
    if with_stdin:
        container.die_with_stdin()
    if memory_mb is not None:
        container.limit_memory(memory_mb)
    sys.dont_write_bytecode = True
    container.leave_no_names(ROOT)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    os.umask(0o077)
    listener.bind(path)
    listener.listen(8)
    runtime = Runtime(path + ".action", LogStreams())
    while True:
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept() itself calls
        container.serve(_socket.socket(fileno=fd), runtime)


if __name__ == "__main__":
    main()
