#!/bin/sh
# Makes the virtual environment: the first of uv, python3.13, python3.12, python3.11 that can.
set -eu
venv=${1:-.venv}

can_venv() { # does this interpreter exist, start, and carry venv with pip?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if command -v uv >/dev/null 2>&1 && uv venv --quiet --allow-existing --python '>=3.11' "$venv" 2>/dev/null; then
    echo "setup: $venv by uv" >&2
    # Compiled: containers of python:3-libs write no bytecode, and would compile those libraries in every cold start.
    uv pip install --quiet --compile-bytecode --python "$venv/bin/python" -e '.[dev,functions]'
    exit 0
fi
for python in python3.13 python3.12 python3.11 python3; do
    if can_venv "$python"; then
        echo "setup: $venv by $python" >&2
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev,functions]'
        exit 0
    fi
done
echo "setup: no Python >= 3.11 that can make a virtual environment was found." >&2
echo "  Debian or Ubuntu: apt-get install python3 python3-venv     Fedora: dnf install python3" >&2
echo "  or install uv (https://docs.astral.sh/uv) and run this again." >&2
exit 1
