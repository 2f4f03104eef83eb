#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Failed units with the ends of their journals, then the warnings of all units.
failed=$(systemctl --failed --plain --no-legend --no-pager | awk '{print $1}')
echo "--- failed units: ${failed:-none}"
for unit in $failed; do
    echo "--- journal of $unit"
    journalctl --no-pager -o short -u "$unit" -n 40
done
echo "--- warnings of all units"
journalctl --no-pager -p warning -n 40
