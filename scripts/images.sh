#!/bin/sh
# Builds the images of the platform and of the runtimes. Variables, from the environment or else from .env:
#   BASE_IMAGE (python:3.12-slim), NODE_BASE_IMAGE (node:20-slim), PYTHON_KINDS, NODE_KINDS: what compose.yaml says of them.
# scripts/standin-image.sh makes base images where no registry can be reached.
set -eu
cd "$(dirname "$0")/.."

if [ -f .env ]; then
    # The environment wins over the file, as with compose.
    while IFS='=' read -r key value || [ -n "$key" ]; do
        value=${value#[\"\']} value=${value%[\"\']}
        case $key in
        BASE_IMAGE | NODE_BASE_IMAGE | PYTHON_KINDS | NODE_KINDS) eval "$key=\${$key:-\$value}" ;;
        esac
    done <.env
fi
if ! docker info >/dev/null 2>&1; then
    echo "no Docker Engine answers: install and start one, or set DOCKER_HOST" >&2
    exit 1
fi
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0 # the builder that needs no plugin

said=$(mktemp)
trap 'rm -f "$said"' EXIT
build() { # image, Dockerfile, further arguments
    image=$1 file=$2
    shift 2
    echo "building $image" >&2
    docker build --quiet --file "$file" --tag "$image" "$@" . >"$said" 2>&1 || { cat "$said" >&2; exit 1; }
}

base=${BASE_IMAGE:-python:3.12-slim}
node=${NODE_BASE_IMAGE:-node:20-slim}
libraries="chameleon pyaes Pillow numpy av" # the extra [functions] of pyproject.toml
build fallow/action-python functions/runtimes/python/Dockerfile \
    --build-arg BASE_IMAGE="$base" --build-arg KINDS="${PYTHON_KINDS:-python:3,python:3.12}"
build fallow/action-python-libs functions/runtimes/python/Dockerfile \
    --build-arg BASE_IMAGE="$base" --build-arg KINDS=python:3-libs --build-arg LIBRARIES="$libraries"
build fallow/action-nodejs functions/runtimes/nodejs/Dockerfile \
    --build-arg BASE_IMAGE="$node" --build-arg KINDS="${NODE_KINDS:-nodejs:20}"
build fallow/platform Dockerfile --build-arg BASE_IMAGE="$base"
docker image ls --filter reference='fallow/*'
