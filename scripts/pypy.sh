#!/bin/sh
# Makes .pypy, a virtual environment of PyPy with what a simulation needs of others: NumPy. The interpreter is $PYPY, or
# the first of pypy3.11 and pypy3 that is of Python 3.11 or newer, or one that uv finds or fetches.
set -eu
folder=${1:-.pypy}

made() {
    echo "pypy: $("$folder/bin/python" -c 'import sys; print("PyPy %d.%d.%d" % sys.pypy_version_info[:3])') in $folder." >&2
    echo "  It simulates with --python $folder/bin/python, or FALLOW_SIMULATOR_PYTHON=$PWD/$folder/bin/python" >&2
}

is_pypy() {
    "$1" -c 'import sys; sys.exit(sys.implementation.name != "pypy" or sys.version_info < (3, 11))' >/dev/null 2>&1
}

for python in ${PYPY:-pypy3.11 pypy3}; do
    if is_pypy "$python"; then
        rm -rf "$folder" # of another PyPy, or of one that is gone
        # Debian's comes without pip: the one of .venv puts packages into it.
        "$python" -m venv --without-pip "$folder"
        if .venv/bin/python -m pip --version >/dev/null 2>&1; then
            .venv/bin/python -m pip --python "$folder/bin/python" install --quiet --disable-pip-version-check \
                --only-binary :all: numpy
        else
            uv pip install --quiet --only-binary :all: --python "$folder/bin/python" numpy
        fi
        made
        exit
    fi
done
if [ -z "${PYPY:-}" ] && command -v uv >/dev/null 2>&1 && rm -rf "$folder" && uv venv --quiet --python pypy3.11 "$folder"; then
    uv pip install --quiet --only-binary :all: --python "$folder/bin/python" numpy
    made
    exit
fi
echo "pypy: no PyPy of Python 3.11 was found${PYPY:+ at $PYPY}." >&2
echo "  Debian 13: apt-get install pypy3     others: https://pypy.org/download.html, then PYPY=/path/to/pypy3 make pypy" >&2
exit 1
