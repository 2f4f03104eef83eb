#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# In the container: the same release under the checklist's settings, and a hello world.
set -e
home=/srv/live-dashboard
environment=/etc/live-dashboard/environment
python=$home/current/.venv/bin/python
processors=$(nproc)
mkdir -p /srv/bench/files /var/log/gunicorn
command -v wrk >/dev/null || apt-get install -qq -y --no-install-recommends wrk >/dev/null

# What the collection runs with is also hello world's.
config=$(ls -d /etc/live-dashboard/slots/*/gunicorn.conf.py /etc/live-dashboard/gunicorn.conf.py 2>/dev/null | head -n 1)
setting() { sed -n "s/^$1 = //p" "$config" | tr -d '"' | head -n 1; }
workers=$(setting workers); threads=$(setting threads)
echo "the collection's Gunicorn has $workers workers with ${threads:-1} threads" >/srv/bench/settings

systemd-run -q --unit=bench-required -p "EnvironmentFile=$environment" -p WorkingDirectory=$home/current -p User=live-dashboard \
    "$python" -m gunicorn --config /dev/null --worker-class sync --workers $((processors * 2 + 1)) --bind 127.0.0.1:9001 --timeout 60 \
    --max-requests 1000 --access-logfile /tmp/required_access.log 'app:create_app()'
systemd-run -q --unit=bench-hello -p WorkingDirectory=/srv/bench \
    "$python" -m gunicorn --config /dev/null --worker-class gthread --workers "$workers" --threads "${threads:-1}" --keep-alive 0 --umask 0 \
    --bind unix:/run/bench-hello.sock hello:app
for attempt in $(seq 100); do
    if python3 /srv/bench/measure.py ready; then exit 0; fi
    sleep 0.2
done
journalctl --no-pager -n 30 -u bench-required -u bench-hello >&2
exit 1
