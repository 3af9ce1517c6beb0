#!/usr/bin/env bash
# The guest's one service. The project comes as a tar on the second disk; what was shown goes as a tar onto the third,
# with the exit code last, so that a guest that did not finish cannot pass for one that did.
set -uo pipefail

world=$(sed -n 's/.*fallow\.world=\([^ ]*\).*/\1/p' /proc/cmdline)
results=/opt/results
mkdir -p /opt/project "$results"
tar -xf /dev/vdb -C /opt/project
chown -R root:root /opt/project

bash /opt/project/scripts/guest/inside.sh "$world" "$results"
code=$?
echo "$code" >"$results/exit"
journalctl --quiet --boot --no-pager >"$results/journal.txt"
tar -cf /dev/vdc -C "$results" .
sync
echo "guest: $world ended with $code"
