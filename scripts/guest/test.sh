#!/usr/bin/env bash
# Boots the guest once for each world named (default: all) and runs the cgroup tests inside; 0 if all passed everywhere.
#   scripts/guest/test.sh [user] [v2] [apparmor] [v1]
# user:     cgroup version 2: the process backend as an ordinary user
# v2:       cgroup version 2: Docker with the systemd driver, with cgroupfs
# apparmor: as v2, with AppArmor on: what Docker's profile denies a service that binds the system D-Bus
# v1:       cgroup version 1: Docker with the systemd driver
# Needs qemu-system-x86_64 and no KVM. What each world showed is left in build/guest/results/<world>.
set -euo pipefail
cd "$(dirname "$0")/../.."

limit_s=${GUEST_LIMIT_S:-2400} # a guest that is not done by then has failed
worlds=("$@")
[ $# -gt 0 ] || worlds=(user v2 apparmor v1)
command -v qemu-system-x86_64 >/dev/null || {
    echo "guest: qemu-system-x86_64 is missing: apt-get install qemu-system-x86" >&2
    exit 1
}

boot() { # world, kernel arguments
    local world=$1 results=build/guest/results/$1
    rm -rf "$results"
    mkdir -p "$results"
    tar --exclude-vcs --exclude=./.venv --exclude=./build --exclude=./out --exclude='.*_cache' --exclude=.hypothesis \
        --exclude=__pycache__ \
        -cf "$scratch/project.tar" .
    rm -f "$scratch/results.tar"
    truncate -s 64M "$scratch/results.tar"
    echo "guest: booting $world (log: $results/console.txt)"
    timeout --foreground "$limit_s" nice -n 10 qemu-system-x86_64 \
        -machine q35 -accel tcg,thread=multi -cpu Nehalem -smp 2 -m 2560 -nodefaults -no-reboot -display none \
        -kernel "$root/vmlinuz" -initrd "$root/initrd.img" \
        -append "root=/dev/vda rw console=ttyS0 quiet mitigations=off panic=-1 fallow.world=$world $2" \
        -drive "file=$root/root.img,if=virtio,format=raw,snapshot=on,cache=unsafe" \
        -drive "file=$scratch/project.tar,if=virtio,format=raw,readonly=on" \
        -drive "file=$scratch/results.tar,if=virtio,format=raw,cache=unsafe" \
        -device virtio-rng-pci -serial stdio </dev/null | tee "$results/console.txt" | sed -u 's/\r$//' || true
    tar -xf "$scratch/results.tar" -C "$results" 2>/dev/null || true
    local code
    code=$(cat "$results/exit" 2>/dev/null || echo "not finished (limit $limit_s s)")
    echo "guest: $world: $code"
    [ "$code" = 0 ]
}

root=$(scripts/guest/build.sh)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/fallow-guest.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
failed=()
for world in "${worlds[@]}"; do
    case $world in
    user | v2) arguments="apparmor=0 selinux=0" ;;
    apparmor) arguments="apparmor=1 security=apparmor" ;;
    v1) arguments="apparmor=0 selinux=0 systemd.unified_cgroup_hierarchy=0" ;;
    *)
        echo "guest: no world '$world'; there are user, v2, apparmor, v1" >&2
        exit 2
        ;;
    esac
    boot "$world" "$arguments" || failed+=("$world")
done
[ ${#failed[@]} = 0 ] || {
    echo "guest: failed in ${failed[*]}" >&2
    exit 1
}
