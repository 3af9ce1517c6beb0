"""What a container's process does, however it came to be: started by itself (server.py) or forked (spawner.py)."""

from __future__ import annotations

import os
import sys

from functions.runtimes.python import quickjson
from functions.runtimes.python.wire import Connection, RequestError

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    import _socket

    from functions.runtimes.python.runtime import Runtime

EXIT_MEMORY = 86  # the exit code that says: the memory limit was met
MEMORY_MARGIN_MB = 64  # the interpreter itself and a few thread stacks; the invoker watches what is really resident


def error_body(error: RequestError) -> bytes:
    return quickjson.dumps({"error": str(error)}).encode("utf-8", "backslashreplace")


def serve(conn: _socket.socket, runtime: Runtime) -> None:
    """Answer one connection's requests until it ends. A process without memory ends here, with EXIT_MEMORY."""
    try:
        serve_connection(conn, runtime)
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the invoker gave up this request
    finally:
        conn.close()


def serve_connection(conn: _socket.socket, runtime: Runtime) -> None:
    connection = Connection(conn)
    while True:
        try:
            request = connection.read()
        except RequestError as error:
            connection.send(error.status, error_body(error))
            return
        if request is None:
            return
        try:
            status, body = 200, runtime.answer(*request, sentinels=connection.sentinels)
        except RequestError as error:
            status, body = error.status, error_body(error)
        connection.send(status, body)


def die_with_stdin() -> int:
    """Have the kernel kill this process group when the other end of standard input, a pipe, closes. Returns the
    descriptor that the pipe has now: as long as it is open, in a program that is executed too, this holds.

    So no container outlives an invoker that was killed. A pipe whose last writer goes raises SIGIO on an O_ASYNC
    reader, and F_SETSIG makes that SIGKILL: no thread, no polling, and unlike prctl in the standard library's reach.
    """
    import fcntl
    import select

    f_setsig, sigkill = 10, 9  # Linux; F_SETSIG is not in every fcntl module, and signal brings enum
    pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    pid = os.getpid()
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -pid if os.getpgrp() == pid else pid)
    fcntl.fcntl(pipe, f_setsig, sigkill)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(pipe, 0)
    if poll.poll(0):  # it closed before the signal was armed
        os._exit(0)
    return pipe


def limit_memory(memory_mb: int, margin_mb: int = MEMORY_MARGIN_MB) -> None:
    import resource

    limit_bytes = (memory_mb + margin_mb) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave_no_names(root: str) -> None:
    """An action that imports `functions` means its own. `root` is the folder it was imported from."""
    sys.path.remove(root)
    for name in [name for name in sys.modules if name.partition(".")[0] == "functions"]:
        del sys.modules[name]
