#!/usr/bin/env bash
# The last step of build.sh, inside the new root file system: the libraries, an ordinary user, and one service that runs
# what is to be tried and then switches the machine off.
set -euo pipefail

python3 -m venv --without-pip /opt/venv
site=$(echo /opt/venv/lib/python3.*/site-packages)
mv /opt/libraries/* "$site"
rmdir /opt/libraries
echo /opt/project >"$site/project.pth"
printf '#!/opt/venv/bin/python\nfrom fallow_cli.main import main\n\nmain()\n' >/opt/venv/bin/fallow
chmod 755 /opt/venv/bin/fallow
/opt/venv/bin/python -m compileall -q "$site" >/dev/null || true # some packages carry files for other versions

echo guest >/etc/hostname
echo "127.0.0.1 localhost guest" >/etc/hosts
echo "/dev/vda / ext4 defaults,noatime 0 0" >/etc/fstab

# A user whose manager runs without a login, and passes the CPU controller on.
useradd --create-home --uid 1000 --shell /bin/bash tester
mkdir -p /var/lib/systemd/linger /etc/systemd/system/user@.service.d
touch /var/lib/systemd/linger/tester
printf '[Service]\nDelegate=cpu memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf

systemctl --quiet disable docker.service docker.socket containerd.service redis-server.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty@tty1.service
systemctl --quiet mask serial-getty@ttyS0.service systemd-timesyncd.service

chmod 755 /usr/local/sbin/fallow-guest
cat >/etc/systemd/system/fallow-guest.service <<'UNIT'
[Unit]
After=multi-user.target dbus.service
SuccessAction=poweroff
FailureAction=poweroff

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/fallow-guest
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity

[Install]
WantedBy=graphical.target
UNIT
systemctl --quiet enable fallow-guest.service
systemctl --quiet set-default graphical.target
