"""A process that simulates one point after another for the one that started it, under an interpreter of its own.

    PYTHON worker_main.py ROOT [FOLDER]...

ROOT is the folder of the packages `fallow` and `simulator`. FOLDERs are where the one that started it finds modules.
They are searched last: of another interpreter what is compiled is of no use, and NumPy must be this one's own.

A line of JSON each way. First {"ready": NAME} or {"unfit": WHY}. Then a point comes, and {"progress": [seconds, calls]}
goes until {"summary": ...}, or {"wrong": TEXT} where the point or a policy is, or {"broken": TRACEBACK}. It ends when
its input does, or nobody hears it. What an own policy prints goes to standard error; there is nothing for it to read.

Nothing that a Python before 3.11 lacks is imported before the version is looked at.
"""

from __future__ import annotations

import json
import os
import platform
import site
import sys
import traceback
from typing import IO, Any

OLDEST = (3, 11)


def main(root: str, folders: list[str]) -> int:
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]  # its modules are no packages
    why_not = _unfit()
    if why_not:
        _tell(answers, {"unfit": why_not})
        return 1
    sys.path.append(root)
    for folder in folders:
        site.addsitedir(folder)
    try:
        _tell(answers, {"ready": _name()})
        for line in requests:
            _tell(answers, _answer(json.loads(line), answers))
    except BrokenPipeError:
        os.dup2(nothing, answers.fileno())  # for what is still to be written when it is closed
        return 1
    return 0


def _name() -> str:
    python = platform.python_version()
    versions: Any = getattr(sys, "pypy_version_info", None)
    return f"CPython {python}" if versions is None else f"PyPy {'.'.join(map(str, versions[:3]))} (Python {python})"


def _unfit() -> str:
    if sys.version_info < OLDEST:
        return f"it is {_name()}; 3.11 or newer is needed"
    try:
        import numpy  # noqa: F401
    except ImportError as e:
        return f"it is {_name()} and cannot import NumPy ({str(e).strip().splitlines()[0]})"
    return ""


def _answer(request: dict[str, Any], answers: IO[str]) -> dict[str, Any]:
    from fallow.core.policies.guarded import WrongPolicyError
    from simulator.sweep import point_of, simulate

    try:
        return {
            "summary": simulate(point_of(request), lambda now_s, ended: _tell(answers, {"progress": [now_s, ended]}))
        }
    except (ValueError, WrongPolicyError) as e:
        return {"wrong": str(e)}
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001 - whoever asked raises it
        return {"broken": traceback.format_exc()}


def _tell(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
