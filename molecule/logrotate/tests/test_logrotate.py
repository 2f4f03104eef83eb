# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the logs of a service that goes on writing while they are rotated."""

from __future__ import annotations

import re
import time

import pytest

LOGS = ["/var/log/shop/app.log", "/var/log/shop of others/app.log"]

pytestmark = pytest.mark.units("logrotate.service", "writer.service")


def rotate(host):
    done = host.run("logrotate --force /etc/logrotate.conf")
    assert done.rc == 0, done.stderr
    assert "error" not in done.stderr


def lines(host, path):
    text = host.check_output("cat %s", path)
    return [int(line.split()[1]) for line in text.splitlines()]


@pytest.fixture(params=LOGS)
def log(request):
    return request.param


def test_the_writer_goes_on_in_the_new_file(host, log):
    rotate(host)
    time.sleep(0.5)
    old, new = lines(host, f"{log}.1"), lines(host, log)
    assert len(new) > 5
    # Not one line is lost between the two, and nothing more comes to the old one.
    assert old + new == list(range(old[0], new[-1] + 1))
    assert lines(host, f"{log}.1") == old


def test_the_new_file_is_its_writers(host, log):
    rotate(host)
    file = host.file(log)
    assert (file.user, file.group, file.mode) == ("writer", "adm", 0o600)


def test_old_files_are_packed_and_few(host, log):
    for _ in range(5):
        time.sleep(0.1)
        rotate(host)
    folder = log.rsplit("/", 1)[0]
    names = sorted(host.check_output("ls %s", folder).split())
    assert names == ["app.log", "app.log.1", "app.log.2.gz", "app.log.3.gz"]
    assert host.run("gzip -t %s/app.log.2.gz %s/app.log.3.gz", folder, folder).rc == 0


def test_a_folder_that_others_may_write_to_is_rotated_as_its_owner(host):
    host.check_output("echo something | runuser -u writer -- tee -a /var/log/shared/app.log")
    rotate(host)
    old = host.file("/var/log/shared/app.log.1")
    assert old.user == "writer"
    assert old.content_string.endswith("something\n")


def test_no_log_is_claimed_twice(host):
    told = host.run("logrotate --debug /etc/logrotate.conf")
    assert told.rc == 0
    assert "error:" not in told.stderr
    assert "duplicate" not in told.stderr


def test_the_packages_own_file_was_replaced(host):
    told = host.run("logrotate --debug /etc/logrotate.conf").stderr
    ours = (
        r"pattern: /var/log/apt/term\.log\s+/var/log/apt/history\.log\s+monthly .*\(2 rotations\)"
    )
    assert re.search(ours, told)
    assert told.count("rotating pattern: /var/log/apt/") == 1


def test_a_large_log_does_not_wait_for_its_week(host):
    """Real runs, by the service that the timer starts."""
    host.check_output("systemctl start logrotate.service")
    before = host.file(f"{LOGS[0]}.1").mtime
    host.check_output("systemctl start logrotate.service")
    assert host.file(f"{LOGS[0]}.1").mtime == before
    host.check_output("systemctl stop writer && head -c 1100000 /dev/zero >> %s", LOGS[0])
    try:
        host.check_output("systemctl start logrotate.service")
        assert host.file(f"{LOGS[0]}.1").size >= 1_100_000
    finally:
        host.check_output("systemctl start writer")
        rotate(host)
        host.check_output("rm -f %s %s", f"{LOGS[0]}.1", f"{LOGS[0]}.2.gz")


def test_the_timer_runs(host):
    timer = host.service("logrotate.timer")
    assert timer.is_enabled
    assert timer.is_running
