"""Which kinds of container this machine can run, and how a process of each becomes one.

The kinds are a table: a finder each looks for what its runtime needs and gives its rows, so a further runtime is one
more finder in FINDERS. Nothing here starts a container; `process` orders them from the spawner.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from fallow.infra.log import get_logger

LIBRARIES = ("chameleon", "pyaes", "pillow", "numpy", "av")  # the extra [functions] of pyproject.toml
LIBRARIES_FOLDER = "python-libs"
# Each thread that OpenBLAS and OpenMP start, one a core of the host, takes buffers of tens of MB out of the data limit;
# and a container has a share of its VM's cores, not all of the host's.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_NAME = re.compile(r"[A-Za-z0-9._-]+")

log = get_logger("invoker.runtimes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How a fork of the spawner becomes a container of one kind: it serves as the Python runtime it is."""

    path: tuple[str, ...] = ()  # appended to sys.path
    env: Mapping[str, str] = field(default_factory=dict)  # beside what every container has


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


FINDERS: tuple[Callable[[Path], Found], ...] = (find_python, find_python_libs)
