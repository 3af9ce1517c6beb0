#!/usr/bin/env bash
# What runs in the guest: inside.sh <world> <folder for the results>. 0 if every step passed.
set -uo pipefail
cd /opt/project

world=$1
results=$2
failed=()
export TEST_FALLOW_IMAGE=fallow-standin:bookworm TEST_FALLOW_DOCKER=required TEST_FALLOW_PATIENCE=10
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

step() { # name, command...
    local name=$1
    shift
    echo "guest: --- $name ($(cut -d' ' -f1 /proc/uptime) s after the start)"
    "$@" 2>&1 | tee "$results/$name.txt"
    local code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || failed+=("$name")
    return "$code"
}

pytest=(/opt/venv/bin/python -m pytest -p no:cacheprovider -vv -rA --timeout 900)
tests() { "${pytest[@]}" "$@"; }

docker_with() { # driver
    mkdir -p /etc/docker
    printf '{"exec-opts": ["native.cgroupdriver=%s"]}\n' "$1" >/etc/docker/daemon.json
    systemctl restart docker && docker info --format 'Docker {{.ServerVersion}}, cgroup v{{.CgroupVersion}}, {{.CgroupDriver}}'
}

image() { docker import /opt/image.tar "$TEST_FALLOW_IMAGE"; }

docker_suite() { # cgroup version, driver
    FALLOW_GUEST_WORLD="$1 $2" tests scripts/guest/checks/test_world.py tests/system/test_docker_cgroups.py \
        tests/harvest_agent/test_docker_agent.py
}

as_user() { # command...: as the ordinary user, with the environment a login gives
    runuser -u tester -- env HOME=/home/tester HYPOTHESIS_STORAGE_DIRECTORY=/home/tester/hypothesis XDG_RUNTIME_DIR=/run/user/1000 \
        DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"
}

user_suite() {
    systemctl start user@1000.service && as_user "${pytest[@]}" scripts/guest/checks/test_ordinary_user.py \
        tests/harvest_agent/test_cgroups.py tests/harvest_agent/test_agent.py tests/harvest_agent/test_fleet.py \
        tests/system/test_up.py::test_a_blocking_echo_and_its_record tests/system/test_up.py::test_nothing_is_left_behind \
        --deselect tests/harvest_agent/test_agent.py::test_what_cannot_be_done_is_said \
        --deselect tests/harvest_agent/test_agent.py::test_settings_that_cannot_be_are_refused_in_words \
        --deselect tests/harvest_agent/test_fleet.py::test_a_wrong_config_names_the_key
}

uname -r
/opt/venv/bin/python -m compileall -q fallow fallow_cli controller invoker harvest_agent functions
case $world in
user)
    step ordinary-user user_suite
    ;;
v2)
    step docker-systemd-start docker_with systemd && step image image &&
        step docker-systemd docker_suite 2 systemd
    step docker-cgroupfs-start docker_with cgroupfs && step docker-cgroupfs docker_suite 2 cgroupfs
    ;;
v1)
    step docker-systemd-start docker_with systemd && step image image && step docker-systemd docker_suite 1 systemd
    ;;
apparmor)
    step docker-systemd-start docker_with systemd && step image image &&
        step apparmor tests scripts/guest/checks/test_apparmor.py
    ;;
*)
    echo "guest: no world '$world'"
    exit 2
    ;;
esac
echo "guest: failed: ${failed[*]:-nothing}"
[ ${#failed[@]} = 0 ]
