#!/usr/bin/env bash
# Makes what `make guest-test` boots: a Debian root file system with its kernel, systemd, Docker and the libraries the
# tests need, and the image of the containers inside. Nothing of it is installed on this machine, and nothing is
# downloaded when it runs. Needs root, mmdebstrap and mke2fs; takes three minutes, once: it is made anew when a file of
# this folder that goes into it, or the project's dependencies, change. Prints the folder with vmlinuz, initrd.img and
# root.img.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=bookworm # systemd 252: boots with cgroup version 1 too; Python 3.11, the oldest that the project knows
packages=(
    linux-image-cloud-amd64 initramfs-tools
    systemd-sysv dbus dbus-user-session libpam-systemd polkitd
    docker.io iptables apparmor
    python3 python3-venv nodejs redis-server procps ca-certificates
)
slim=(
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/locale/*'
)

requirements=$(
    .venv/bin/python - <<'PY'
import tomllib

with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)["project"]
test = [d for d in project["optional-dependencies"]["dev"] if d.startswith(("pytest", "hypothesis"))]
# pip reads markers for the Python that runs it; the guest's is older than 3.11.3, for which redis and valkey want this.
print("\n".join([*project["dependencies"], *test, "async-timeout"]))
PY
)
key=$({
    echo "$requirements"
    cat scripts/guest/build.sh scripts/guest/prepare.sh scripts/guest/start.sh
} | sha256sum | cut -c1-12)
out=build/guest/$key
if [ -e "$out/root.img" ]; then
    echo "$out"
    exit
fi
for tool in mmdebstrap mke2fs; do
    command -v "$tool" >/dev/null || {
        echo "guest: $tool is missing: apt-get install mmdebstrap e2fsprogs" >&2
        exit 1
    }
done
if [ "$(id -u)" != 0 ]; then
    echo "guest: the root file system's files belong to root, so only root can make it: run this as root" >&2
    exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/fallow-guest.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

echo "guest: making the containers' image" >&2
mmdebstrap --quiet --variant=essential --include=python3 "${slim[@]}" "$suite" "$work/image.tar" >&2

echo "guest: fetching the libraries" >&2
.venv/bin/python -m pip install --quiet --no-compile --target "$work/libraries" --python-version 3.11 \
    --only-binary :all: --requirement <(echo "$requirements") >&2

echo "guest: making the root file system" >&2
mmdebstrap --quiet --variant=important --include="$(
    IFS=,
    echo "${packages[*]}"
)" "${slim[@]}" \
    --customize-hook="copy-in $work/libraries /opt" \
    --customize-hook="upload $work/image.tar /opt/image.tar" \
    --customize-hook="upload scripts/guest/start.sh /usr/local/sbin/fallow-guest" \
    --customize-hook="upload scripts/guest/prepare.sh /opt/prepare.sh" \
    --customize-hook='chroot "$1" bash /opt/prepare.sh' \
    "$suite" "$work/root" >&2

find build/guest -mindepth 1 -maxdepth 1 ! -name results -exec rm -rf {} + 2>/dev/null || true
mkdir -p "$out"
cp "$work"/root/boot/vmlinuz-* "$out/vmlinuz"
cp "$work"/root/boot/initrd.img-* "$out/initrd.img"
rm -rf "$work"/root/boot/*
truncate -s 4G "$work/root.img"
mke2fs -q -t ext4 -d "$work/root" "$work/root.img" >&2
mv "$work/root.img" "$out/root.img.part"
mv "$out/root.img.part" "$out/root.img"
echo "$out"
