#!/usr/bin/env bash
# Makes a stand-in for the base images where no registry can be reached: one Debian with Python, Node.js and a Redis server,
# under the name given (default fallow-standin:bookworm). Needs root, mmdebstrap and a Docker Engine; takes half a minute.
# Prints the variables with which `make images` and compose.yaml use it.
#   scripts/standin-image.sh > .env
set -euo pipefail

name=${1:-fallow-standin:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if ! docker image inspect "$name" >/dev/null 2>&1; then
    # This machine's certificates come along: where its registries have their own, a build must trust them as well.
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ndisable-pip-version-check = true\n' >"$folder/pip.conf"
    mmdebstrap --quiet --variant=minbase \
        --include=python3,python3-venv,python3-pip,nodejs,redis-server,redis-tools,ca-certificates \
        --customize-hook="upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt" \
        --customize-hook="upload $folder/pip.conf /etc/pip.conf" \
        bookworm "$folder/root.tar" >&2
    docker import "$folder/root.tar" "$name" >&2
fi

python=$(docker run --rm "$name" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
node=$(docker run --rm "$name" node -p 'process.versions.node.split(".")[0]')
cat <<END
BASE_IMAGE=$name
NODE_BASE_IMAGE=$name
REDIS_IMAGE=$name
PYTHON_KINDS=python:3,python:$python
NODE_KINDS=nodejs:$node
END
