"""Each benchmark is one file that can be deployed as it is."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from functions import benchmarks

LIBRARIES = {"chameleon", "pyaes", "PIL", "numpy", "av"}
FILES = sorted(p for p in Path(benchmarks.__file__).parent.glob("*.py") if p.name != "__init__.py")


def imported(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import has no package to start from in a container"
            names.add((node.module or "").partition(".")[0])
    return names


def test_there_are_nine() -> None:
    assert [p.stem for p in FILES] == [
        "chameleon",
        "float_op",
        "image_process",
        "linpack",
        "lr_review",
        "matmult",
        "mobilenet",
        "pyaes",
        "video_processing",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_imports_the_standard_library_and_the_libraries_alone(path: Path) -> None:
    assert imported(path.read_text()) <= set(sys.stdlib_module_names) | LIBRARIES
