"""Forks containers from one process that has the runtime imported: `python -S -E spawner.py`, standard input a socket.

A fork is there in less than a millisecond where an interpreter takes 10 to 30, and it inherits the spawner's cgroups:
entering one costs a grace period of the kernel, 20 ms and under load far more, for each container and hierarchy.

Standard input is a unix SEQPACKET socket; each message is one JSON object. An order is `{"id", "home", "memory_mb",
"env", "path", "program", "margin_mb"}` with four file descriptors: the container's HTTP connection
(one end of a socketpair: nobody else can speak to the container, and nobody has to wait until it listens), and its
standard input, output and error. The answers are `{"ready": true}` once, `{"id", "pid"}` from each container when it is
about to serve, and `{"id", "code", "cpu_s"}` when it has ended: the exit code (minus the signal that ended it) and the
CPU time of it and of its children that it waited for. An order that cannot be carried out is answered `{"id",
"error"}`. When the socket closes, all containers are killed and the spawner ends; a container also ends by itself when
its standard input, a pipe, closes.

A container is a process in a session of its own, with `home` as its directory and HOME, and serves as server.py does;
its code and zips go into the folder `home/action`, and `path` are folders that are appended to its sys.path. An order
whose `program`, a list, is not empty is for another runtime: the fork becomes that program, with a data limit that is
`margin_mb` above `memory_mb`, to serve the same protocol. It is given two more options: `--connection FD`, what it
serves, and `--ready FD TEXT`, what it writes where as soon as it does.

What a fork shares is the layout of its memory and the secret of Python's hashes: containers of one spawner are told
apart as processes of one user are, no more.

The kernel goes on showing the spawner's environment for a fork, and whoever looks for the processes of a container
looks for its HOME there. So the container writes its own over it; the caller leaves room with a long first variable.
"""

from __future__ import annotations

import _socket
import fcntl  # noqa: F401 - these three are for the containers: imported once, here
import gc
import os
import resource  # noqa: F401
import select
import sys

# Run as a script this file has no package: the folder that holds `functions` is four levels up.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path[0] = ROOT

from functions.runtimes.python import container, quickjson  # noqa: E402
from functions.runtimes.python.logs import LogStreams  # noqa: E402
from functions.runtimes.python.runtime import Runtime  # noqa: E402

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    from typing import Any, NoReturn

NICENESS = 5  # functions yield to the platform that serves them
OOM_SCORE_ADJ = "500"  # the kernel, out of memory, takes a function first
ORDER_BYTES = 1 << 16
ORDER_FDS = 4
ANCILLARY_BYTES = _socket.CMSG_SPACE(ORDER_FDS * 4)
SIGKILL = 9


def environment_area() -> tuple[int, int]:
    """Where this process' initial environment lies in its memory: (address, length in bytes)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, fields 50 and 51 of proc(5)
    return start, end - start


class Spawner:
    """Single-threaded, as what forks should be."""

    def __init__(self) -> None:
        self._control = _socket.socket(fileno=os.dup(0))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._epoll = select.epoll()
        self._epoll.register(self._control.fileno(), select.EPOLLIN)
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> pid, id
        self._top_fd = max(self._control.fileno(), self._epoll.fileno(), 16)
        self._area = environment_area()

    def run(self) -> None:
        """Serve until the socket closes."""
        self._say({"ready": True})
        while True:
            for fd, _ in self._epoll.poll():
                if fd in self._children:
                    self._collect(fd)
                elif not self._take_order():
                    return

    def kill_all(self) -> None:
        for pid, _ in self._children.values():
            for kill in (os.kill, os.killpg):  # its group exists once it has made its session
                try:
                    kill(pid, SIGKILL)
                except ProcessLookupError:
                    continue

    def _say(self, message: dict[str, Any]) -> None:
        self._control.send(quickjson.dumps(message).encode())

    def _take_order(self) -> bool:
        """False = the socket has closed."""
        data, ancillary, _, _ = self._control.recvmsg(ORDER_BYTES, ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        fds: list[int] = []
        for _, _, packed in ancillary:
            fds += memoryview(packed).cast("i").tolist()
        self._top_fd = max(self._top_fd, *fds, 0)
        order = quickjson.loads(data.decode())
        try:
            if len(fds) != ORDER_FDS:
                raise OSError(f"{len(fds)} of {ORDER_FDS} file descriptors came: are too many open?")
            self._fork(order, fds)
        except OSError as error:
            self._say({"id": order["id"], "error": str(error)})
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, order: dict[str, Any], fds: list[int]) -> None:
        """Raises OSError."""
        pid = os.fork()
        if pid == 0:
            self._be_container(order, fds)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._top_fd = max(self._top_fd, pidfd)
        self._children[pidfd] = (pid, order["id"])
        self._epoll.register(pidfd, select.EPOLLIN)

    def _collect(self, pidfd: int) -> None:
        pid, number = self._children.pop(pidfd)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        cpu_s = usage.ru_utime + usage.ru_stime
        self._say({"id": number, "code": os.waitstatus_to_exitcode(status), "cpu_s": cpu_s})

    def _be_container(self, order: dict[str, Any], fds: list[int]) -> NoReturn:
        """In the child. It must never return into the spawner's loop."""
        code = 1
        try:
            self._set_up(order, fds)
            if order["program"]:
                self._become(order, fds[0])
            self._serve(order, fds[0])
            code = 0
        except BaseException as error:  # noqa: BLE001 - the door of this process: whoever reads its log learns why
            sys.__excepthook__(type(error), error, error.__traceback__)
        finally:
            os._exit(code)

    def _set_up(self, order: dict[str, Any], fds: list[int]) -> None:
        """Turn a fork of the spawner into what a server started by itself would be; `fds[0]` stays its connection."""
        os.setsid()
        conn, *streams = fds
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        self._epoll.close()
        first, second = sorted((conn, self._control.fileno()))
        for low, high in ((3, first), (first + 1, second), (second + 1, self._top_fd + 1)):
            os.closerange(low, high)
        os.chdir(order["home"])
        be_a_function()

    def _serve(self, order: dict[str, Any], conn: int) -> None:
        self._replace_environment(order["env"])
        sys.path += order["path"]
        container.die_with_stdin()
        container.limit_memory(order["memory_mb"])
        self._say({"id": order["id"], "pid": os.getpid()})
        self._control.close()
        container.serve(_socket.socket(fileno=conn), Runtime(order["home"] + "/action", LogStreams()))

    def _become(self, order: dict[str, Any], conn: int) -> NoReturn:
        """Execute the order's program. Raises OSError."""
        pipe = container.die_with_stdin()
        ready = self._control.fileno()
        for fd in (conn, ready, pipe):
            os.set_inheritable(fd, True)
        started = quickjson.dumps({"id": order["id"], "pid": os.getpid()})
        program = [*order["program"], "--connection", str(conn), "--ready", str(ready), started]
        container.limit_memory(order["memory_mb"], order["margin_mb"])
        os.execve(program[0], program, order["env"])

    def _replace_environment(self, environment: dict[str, str]) -> None:
        os.environ.clear()
        os.environ.update(environment)
        start, length = self._area
        shown = b"".join(name + b"=" + value + b"\0" for name, value in sorted(os.environb.items()))
        if len(shown) > length:
            raise ValueError(f"the spawner's environment has room for {length} bytes, not for {len(shown)}")
        memory = os.open("/proc/self/mem", os.O_WRONLY)
        os.pwrite(memory, shown.ljust(length, b"\0"), start)
        os.close(memory)


def be_a_function() -> None:
    """Priorities are a courtesy: a sandbox may forbid them."""
    try:
        if os.getpriority(os.PRIO_PROCESS, 0) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except OSError:
        pass
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(OOM_SCORE_ADJ)
    except OSError:
        pass


def main() -> None:
    sys.dont_write_bytecode = True
    os.umask(0o077)
    container.leave_no_names(ROOT)
    spawner = Spawner()
    compile("", "", "exec")  # the first one makes the syntax tree's classes, half of what a fork's /init would take
    gc.collect()
    gc.freeze()  # a collection in a container must not write to, and so copy, what it shares with the others
    try:
        spawner.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the invoker is gone
    finally:
        spawner.kill_all()


if __name__ == "__main__":
    main()
