# To be sourced after trixie.sh: brings a Docker Engine and Compose to this machine, and the images that the tests need.
# Starts the engine itself where none answers, and then stops it at the end.

work=$(mktemp -d)
engine_pid=""

stop_engine() {
    if [ -n "$engine_pid" ]; then
        kill "$engine_pid" 2>/dev/null && wait "$engine_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}

install_docker() {
    missing=0
    for tool in dockerd iptables ip mmdebstrap docker-compose; do command -v "$tool" >/dev/null || missing=1; done
    [ "$missing" = 1 ] || return 0
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        docker.io iptables iproute2 mmdebstrap docker-compose ca-certificates >/dev/null
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    dockerd >"$work/dockerd.log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    cat "$work/dockerd.log" >&2
    echo "the Docker Engine did not start" >&2
    return 1
}

# Debian 12's docker-compose is 1.29, with which the cluster must start as well. Compose v2 is in no package of it: the next
# release's, put where Docker looks for plugins.
install_compose() {
    docker compose version >/dev/null 2>&1 && return
    trixie_unpack "$work/compose" docker-compose
    mkdir -p "${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
    cp "$work/compose/root/usr/libexec/docker/cli-plugins/docker-compose" "${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins/"
    docker compose version
}
