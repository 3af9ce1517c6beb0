"""Which kinds of container this machine can run, and how a process of each becomes one.

The kinds are a table: a finder each looks for what its runtime needs and gives its rows, so a further runtime is one
more finder in FINDERS. Nothing here starts a container; `process` orders them from the spawner.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from fallow.infra.log import get_logger
from invoker.backends.base import StartError

LIBRARIES = ("chameleon", "pyaes", "pillow", "numpy", "av")  # the extra [functions] of pyproject.toml
LIBRARIES_FOLDER = "python-libs"
# Each thread that OpenBLAS and OpenMP start, one a core of the host, takes buffers of tens of MB out of the data limit;
# and a container has a share of its VM's cores, not all of the host's.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
NODE_OLDEST = 18
NODE_TIMEOUT_S = 20.0
NODE_FLAGS = ("--v8-pool-size=1",)  # helper threads: a container has a share of its VM's cores, not all of the host's
NODE_RESIDENT_MB = 48  # of an empty container; most of it the program itself
NODE_LEAST_HEAP_MB = 16  # with less V8 does not start
# Beside the heap: the stacks of the threads that files, DNS and workers start (8 MB of address space each), and code.
NODE_MARGIN_MB = 112
NODE_MEMORY_ENDS = frozenset({-signal.SIGABRT, -signal.SIGTRAP, -signal.SIGILL, -signal.SIGSEGV})
_NAME = re.compile(r"[A-Za-z0-9._-]+")

log = get_logger("invoker.runtimes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How a fork of the spawner becomes a container of one kind: it serves as the Python runtime it is, or becomes
    `program`, given the memory limit in MB."""

    path: tuple[str, ...] = ()  # appended to sys.path
    env: Mapping[str, str] = field(default_factory=dict)  # beside what every container has
    program: Callable[[int], tuple[str, ...]] | None = None
    margin_mb: int = 0  # of a program: what its data limit is above the memory limit
    # Of a program: how it ends (minus the signal), and what it says on standard error before, without memory.
    memory_ends: frozenset[int] = frozenset()
    memory_words: bytes = b""


Found = dict[str, Runtime]  # by kind


def find_runtimes(run_dir: Path) -> Found:
    """Every kind this machine offers, each looked for once; links it needs are made in `run_dir`. Blocks."""
    found: Found = {}
    for finder in FINDERS:
        found |= finder(run_dir)
    return found


def forget_runtimes(run_dir: Path) -> None:
    """Remove what `find_runtimes` made."""
    shutil.rmtree(run_dir / LIBRARIES_FOLDER, ignore_errors=True)


def find_python(_: Path) -> Found:
    """The interpreter of this process, with its standard library alone."""
    return {"python:3": Runtime(), f"python:{sys.version_info.major}.{sys.version_info.minor}": Runtime()}


def find_python_libs(run_dir: Path) -> Found:
    """The same with LIBRARIES, where all of them are installed beside the invoker."""
    packages = library_packages(LIBRARIES)
    if packages is None:
        return {}
    forget_runtimes(run_dir)  # an earlier invoker's, whose libraries may be others
    folder = run_dir / LIBRARIES_FOLDER
    folder.mkdir(mode=0o700)
    for package in packages:
        (folder / package.name).symlink_to(package)
    return {"python:3-libs": Runtime(path=(str(folder),), env=ONE_THREAD)}


def library_packages(names: Iterable[str]) -> list[Path] | None:
    """What lies at the top of site-packages of these distributions and of what they require, shared libraries that
    wheels bring (`numpy.libs`) included. None where one of `names` is not installed."""
    packages: dict[Path, None] = {}
    wanted, seen = list(names), set[str]()
    roots = set(wanted)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if name in roots:
                log.info("kind_not_offered", kind="python:3-libs", error=f"{name} is not installed")
                return None
            continue  # required elsewhere: by another Python, on another system
        packages.update(dict.fromkeys(top_level(found)))
        wanted += requirements(found)
    return sorted(packages)


def requirements(found: Distribution) -> list[str]:
    """Names that a distribution requires, those of its extras left out."""
    lines = [line for line in found.requires or () if "extra ==" not in line]
    return [match.group() for line in lines if (match := _NAME.match(line))]


def top_level(found: Distribution) -> list[Path]:
    """A distribution's packages and modules, by the list of its files."""
    tops = {file.parts[0] for file in found.files or ()}
    keep = (top for top in tops if top not in ("..", "__pycache__") and not top.endswith((".dist-info", ".egg-info")))
    return [Path(str(found.locate_file(top))) for top in keep]


def find_nodejs(_: Path) -> Found:
    """The `node` of the PATH, else the one installed beside this interpreter, where it starts and is new enough."""
    found = usable_node()
    if found is None:
        return {}
    path, major, data_mb = found
    margin_mb = data_mb + NODE_MARGIN_MB
    server = str(package_folder("functions.runtimes.nodejs") / "server.cjs")

    def program(memory_mb: int) -> tuple[str, ...]:
        young_mb = max(1, min(16, memory_mb // 32))
        old_mb = max(NODE_LEAST_HEAP_MB, memory_mb - NODE_RESIDENT_MB - 3 * young_mb)
        return (path, *NODE_FLAGS, f"--max-old-space-size={old_mb}", f"--max-semi-space-size={young_mb}", server)

    return {
        f"nodejs:{major}": Runtime(
            program=program, margin_mb=margin_mb, memory_ends=NODE_MEMORY_ENDS, memory_words=b"out of memory"
        )
    }


def usable_node() -> tuple[str, int, int] | None:
    """What `ask_node` says of the first that is new enough."""
    places = (shutil.which("node"), shutil.which("node", path=str(Path(sys.executable).parent)))
    for node in dict.fromkeys(place for place in places if place is not None):
        try:
            found = ask_node(node)
        except (OSError, ValueError, TypeError, subprocess.SubprocessError) as e:
            log.warning("node_not_used", error=f"{node} does not say its version: {e}")
            continue
        if found[1] >= NODE_OLDEST:
            return found
        text = f"{node} is Node.js {found[1]}, the oldest that is supported is {NODE_OLDEST}"
        log.warning("node_not_used", error=text)
    return None


def ask_node(node: str) -> tuple[str, int, int]:
    """(the program itself, which what stands on the PATH may only start; its major version; MB of its data segment when
    it has done nothing: from Node.js 24 on 0.5 GB that V8 reserves for code as if it were written). Raises OSError,
    subprocess.SubprocessError, ValueError or TypeError where it does not answer."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    status = "/VmData:\\s+(\\d+) kB/.exec(require('fs').readFileSync('/proc/self/status', 'latin1'))[1]"
    asked = subprocess.run(
        [node, *NODE_FLAGS, "-p", f"JSON.stringify([process.execPath, process.versions.node, {status}])"],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=NODE_TIMEOUT_S,
        check=True,
    )
    path, version, data_kb = json.loads(asked.stdout)
    return path, int(version.partition(".")[0]), int(data_kb) >> 10


def package_folder(name: str) -> Path:
    """Where a package lies that is not imported here. Raises StartError when it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


FINDERS: tuple[Callable[[Path], Found], ...] = (find_python, find_python_libs, find_nodejs)
