# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous backup, drills and restores, with what can go wrong under them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PORT = 5434
REPOSITORY = "/var/lib/pgbackrest"
STATE = "/var/lib/golive/backup"
METRICS = "/var/lib/prometheus/node-exporter/golive_backup.prom"

pytestmark = pytest.mark.units(
    "golive-backup-full.service", "golive-backup-drill.service", "s3.service"
)


def run(host, *arguments):
    return host.run("golive-backup " + " ".join("%s" for _ in arguments), *arguments)


def good(host, *arguments):
    done = run(host, *arguments)
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def refused(host, *arguments):
    done = run(host, *arguments)
    assert done.rc == 1, done.stdout
    return done.stderr


def sql(host, query, database="postgres", options=f"-p {PORT}"):
    done = host.run(f"runuser -u postgres -- psql -XAtq {options} -d %s -c %s", database, query)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def clock(host):
    return sql(host, "SELECT clock_timestamp()")


def labels(host, repository):
    return [
        one["label"] for one in good(host, "list")["backups"] if one["repository"] == repository
    ]


def one_host(host):
    """Faults that take time are tried on one of the two releases."""
    if host.system_info.release.split(".")[0] != "13":
        pytest.skip("on Debian 13 alone")


def flip(host, path):
    script = (
        "import sys\nwith open(sys.argv[1], 'r+b') as f:\n"
        " f.seek(0, 2)\n f.seek(f.tell() // 2)\n byte = f.read(1)[0]\n"
        " f.seek(-1, 1)\n f.write(bytes([byte ^ 1]))"
    )
    host.check_output("python3 -c %s %s", script, path)


def archived(host):
    """Everything that PostgreSQL has written is in the repositories."""
    sql(host, "SELECT pg_current_xact_id()")
    segment = sql(host, "SELECT pg_walfile_name(pg_switch_wal())")
    for _ in range(300):
        if sql(host, "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver") >= segment:
            return segment
        time.sleep(0.2)
    raise AssertionError(f"{segment} was not archived")


def playbook(name, host, *options):
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i", os.environ["MOLECULE_INVENTORY_FILE"],
            "--limit", host.backend.get_pytest_id().rpartition("/")[2],
            str(ROOT / "playbooks" / f"{name}.yml"), *options,
        ],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_both_repositories_have_a_backup_and_one_was_rehearsed(host):
    told = good(host, "status")
    assert [one["problem"] for one in told["repositories"]] == ["", ""]
    assert all(one["evidence"] for one in told["repositories"])
    assert told["drills"][0]["success"] == 1
    text = host.file(METRICS).content_string
    for metric in (
        'golive_backup_last_success_timestamp_seconds{kind="full",name="repo1"}',
        'golive_backup_last_success_timestamp_seconds{kind="full",name="repo2"}',
        'golive_backup_last_success_timestamp_seconds{kind="dump",name="shop"}',
        'golive_backup_last_success_timestamp_seconds{kind="wal",name="archive"}',
        'golive_backup_size_bytes{kind="full",name="repo2"}',
        'golive_backup_wal_gap{name="repo2"} 0',
        "golive_backup_check_problems 0",
        "golive_restore_drill_rto_seconds",
        "golive_restore_drill_rpo_seconds",
    ):
        assert metric in text, metric


def test_wal_leaves_within_a_minute(host):
    assert sql(host, "SHOW archive_timeout") == "1min"
    assert sql(host, "SHOW archive_mode") == "on"
    for unit in ("full", "diff", "check", "drill"):
        timer = host.service(f"golive-backup-{unit}.timer")
        assert timer.is_enabled and timer.is_running, unit


def test_nothing_in_a_repository_can_be_read_and_no_secret_is_open(host):
    host.check_output("test -d %s", REPOSITORY)
    assert host.run("grep -rqa 'CREATE\\|PostgreSQL' %s", REPOSITORY).rc == 1
    conf = host.file("/etc/pgbackrest/pgbackrest.conf")
    assert (conf.user, conf.group, conf.mode) == ("root", "postgres", 0o640)
    secret = host.file("/etc/golive/backup/secrets/backup_cipher_pass")
    assert (secret.user, secret.mode) == ("root", 0o600)
    assert "cipher" not in host.file("/etc/golive/backup/settings.json").content_string


def test_a_drill_from_s3_compares_and_measures(host):
    report = good(host, "drill", "--repository", "2")
    assert report["result"] == "passed"
    # Each database: orders, the odd one, a partition, the empty one.
    assert report["evidence"]["compared"] == 8
    assert report["evidence"]["rows"] == 2 * (20000 + 2 + 100)
    assert 0 < report["rto_seconds"] < report["rto_target_seconds"]
    assert report["rpo_seconds"] < report["rpo_target_seconds"]
    assert "sound" in report["amcheck"]
    assert host.check_output(f"ls -A {STATE}/scratch") == ""
    kept = host.check_output(f"ls {STATE}/drills | tail -1")
    assert json.loads(host.file(f"{STATE}/drills/{kept}").content_string) == report


def test_a_dropped_database_is_back_as_it_was_a_moment_before(host):
    """By restore.yml; nothing else was committed between that moment and the drop."""
    database = "odd Name's"
    sql(host, 'ALTER DATABASE "odd Name\'s" SET search_path TO "other Schema", public')
    sql(host, "INSERT INTO public.orders (code) VALUES ('the last one')", database)
    before = sql(host, "SELECT sum(hashtextextended(o::text, 0)) FROM public.orders o", database)
    moment = clock(host)
    sql(host, 'DROP DATABASE "odd Name\'s"')
    wanted = ["-e", json.dumps({"restore_time": moment, "restore_replaces": database})]
    code, told = playbook("restore", host, "--check", *wanted)
    assert code == 0, told
    assert "give its name to the copy" in told
    assert "odd" not in sql(host, "SELECT string_agg(datname, ' ') FROM pg_database")
    code, told = playbook("restore", host, *wanted)
    assert code == 0, told
    assert (
        sql(host, "SELECT sum(hashtextextended(o::text, 0)) FROM public.orders o", database)
        == before
    )
    assert sql(host, "SHOW search_path", database) == '"other Schema", public'
    assert "_before_" not in sql(host, "SELECT string_agg(datname, ' ') FROM pg_database")
    code, told = playbook("restore", host, *wanted)
    assert code == 0 and "changed=0" in told, told
    sql(host, "DELETE FROM public.orders WHERE code = 'the last one'", database)


def test_a_named_point_is_looked_at_and_then_takes_the_name(host):
    one_host(host)
    good(host, "point", "before-the-mistake")
    sql(host, "DELETE FROM orders WHERE id > 10", "shop")
    wish = {"target": "name", "name": "before-the-mistake"}
    good(host, "restore", json.dumps(wish))
    look = f"-h {STATE}/scratch/restored.socket -p 5499"
    assert sql(host, "SELECT count(*) FROM orders", "shop", look) == "20000"
    assert sql(host, "SELECT count(*) FROM orders", "shop") == "10"
    told = good(host, "restore", json.dumps({**wish, "replaces": "shop"}))
    assert sql(host, "SELECT count(*) FROM orders", "shop") == "20000"
    assert sql(host, "SELECT count(*) FROM orders", told["old"]) == "10"
    assert "no database that a restore has replaced" in refused(host, "restore-drop-old", "shop")
    assert good(host, "restore-drop-old", told["old"])["changed"]
    assert not good(host, "restore-drop-old", told["old"])["changed"]
    assert host.check_output(f"ls -A {STATE}/scratch") == ""


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"target": "time", "time": "2020-01-01 00:00"}, "No whole backup ended before"),
        ({"target": "time", "time": "2999-01-01 00:00"}, "in the future"),
        ({"target": "time", "time": "yesterday"}, "not understood"),
        ({"target": "name", "name": "nothing"}, "isn't among the known restore points"),
        ({"replaces": "nothing"}, "neither the live cluster nor a backup has"),
        ({"whole_cluster": "9/main"}, "the cluster on this host is"),
        ({"repository": 3}, "restore_repo is 3"),
    ],
)
def test_what_cannot_be_is_refused_with_what_there_is(host, wish, said):
    assert said in refused(host, "restore-plan", json.dumps(wish))


def test_one_bit_in_archived_wal_fails_the_drill(host):
    one_host(host)
    archived(host)
    segment = archived(host)
    path = host.check_output(f"find {REPOSITORY}/archive -name %s", f"{segment}-*")
    archived(host)
    flip(host, path)
    try:
        assert "Recovery ended at" in refused(host, "drill", "--repository", "1")
        assert host.check_output(f"ls -A {STATE}/scratch") == ""
        assert "the last drill (repo1) failed" in refused(host, "check")
        assert "golive_backup_check_problems 1" in host.file(METRICS).content_string
    finally:
        flip(host, path)


def test_one_bit_in_a_backup_fails_the_drill(host):
    one_host(host)
    path = host.check_output(
        f"cd {REPOSITORY}/backup/golive && find $PWD/$(ls | grep F$ | tail -1)/bundle -type f"
    ).splitlines()[0]
    flip(host, path)
    try:
        # The restore meets it, or pgbackrest verify where a later backup has replaced that file.
        assert "golive-backup drill: pgbackrest" in refused(host, "drill", "--repository", "1")
    finally:
        flip(host, path)
    assert good(host, "drill", "--repository", "1")["result"] == "passed"


def test_missing_wal_is_told(host):
    one_host(host)
    archived(host)
    segment = archived(host)
    archived(host)
    path = host.check_output(f"find {REPOSITORY}/archive -name %s", f"{segment}-*")
    host.check_output("mv %s /srv/", path)
    try:
        assert f"lacks WAL since its newest backup: {segment}" in refused(host, "check")
    finally:
        host.check_output("mv %s %s", f"/srv/{os.path.basename(path)}", path)
    assert "lacks WAL" not in run(host, "check").stderr


def test_a_full_repository_gives_no_backup(host):
    one_host(host)
    before = labels(host, 1)
    host.check_output(
        "mkdir -p /srv/small && mount -t tmpfs -o size=2m,mode=755 none /srv/small"
        ' && sed \'s|"/var/lib/pgbackrest"|"/srv/small"|\' /etc/golive/backup/settings.json'
        " >/srv/small.json"
    )
    try:
        told = refused(host, "--settings", "/srv/small.json", "full")
        assert "/srv/small has 2 MB free and a backup (full) takes about" in told
    finally:
        host.check_output("umount /srv/small")
    # The same where the space ends half-way: no file may grow beyond 1 MB.
    done = host.run("runuser -u postgres -- sh -c 'ulimit -f 2000; exec golive-backup full'")
    assert done.rc == 1
    assert "pgbackrest ended with" in done.stderr
    assert labels(host, 1) == before
    assert "the last full backup failed" in refused(host, "check")
    good(host, "ensure")
    assert len(labels(host, 1)) == len(before) + 1


def test_s3_that_refuses_is_told_and_the_local_backup_goes_on(host):
    one_host(host)
    before = labels(host, 1), labels(host, 2)
    conf = "/etc/pgbackrest/pgbackrest.conf"
    host.check_output(f"sed -i 's/s3-key=backupkey/s3-key=notthekey/' {conf}")
    try:
        told = refused(host, "check")
        assert "the S3 repository can't be read" in told and "backup_s3_key" in told
        done = run(host, "diff")
        assert done.rc == 1
        assert "403" in done.stderr or "InvalidAccessKeyId" in done.stderr
    finally:
        host.check_output(f"sed -i 's/s3-key=notthekey/s3-key=backupkey/' {conf}")
    assert labels(host, 2) == before[1]
    good(host, "ensure")
    assert len(labels(host, 2)) == len(before[1]) + 1
    assert run(host, "check").rc == 0


def test_s3_that_is_slow_gets_a_whole_backup(host):
    one_host(host)
    before = labels(host, 2)
    host.check_output("systemctl kill -s STOP s3")
    host.check_output(
        "systemd-run -q --unit=slow-backup --property=Type=oneshot --no-block golive-backup diff"
    )
    time.sleep(6)
    host.check_output("systemctl kill -s CONT s3")
    for _ in range(240):
        if host.check_output("systemctl is-active slow-backup || true") != "activating":
            break
        time.sleep(0.5)
    assert host.check_output("systemctl is-failed slow-backup || true") != "failed"
    assert len(labels(host, 2)) == len(before) + 1


def test_a_server_killed_during_a_backup_gives_none(host):
    one_host(host)
    before = labels(host, 1)
    host.check_output(
        "systemd-run -q --unit=killed-backup --property=Type=oneshot --no-block golive-backup full;"
        " until pgrep -f 'pgbackrest.*--type=full' >/dev/null; do sleep 0.05; done;"
        " kill -9 $(head -1 /var/lib/postgresql/*/main/postmaster.pid)"
    )
    try:
        for _ in range(240):
            if host.check_output("systemctl is-active killed-backup || true") != "activating":
                break
            time.sleep(0.5)
        assert host.check_output("systemctl is-failed killed-backup || true") == "failed"
    finally:
        host.check_output("systemctl reset-failed; systemctl restart 'postgresql@*-main' || true")
        host.check_output("pg_ctlcluster $(pg_lsclusters -h | cut -d' ' -f1) main start || true")
    for _ in range(100):
        if host.run(f"runuser -u postgres -- psql -p {PORT} -c 'SELECT 1'").rc == 0:
            break
        time.sleep(0.2)
    assert labels(host, 1) == before
    good(host, "ensure")
    assert labels(host, 1) != before
    assert run(host, "check").rc == 0


def test_a_timer_that_was_missed_is_made_up_for(host):
    one_host(host)
    was = sql(host, "SELECT now()")
    host.check_output("systemctl stop golive-backup.timer")
    host.check_output("touch -d '3 days ago' /var/lib/systemd/timers/stamp-golive-backup.timer")
    host.check_output("systemctl start golive-backup.timer")
    for _ in range(100):
        told = json.loads(host.file(f"{STATE}/jobs/dump-shop.json").content_string)
        if told["last_run"] > float(sql(host, f"SELECT extract(epoch FROM '{was}'::timestamptz)")):
            break
        time.sleep(0.3)
    else:
        raise AssertionError("the missed dump was not made")


def test_what_a_killed_drill_left_goes_with_the_next(host):
    one_host(host)
    host.check_output(
        "systemd-run -q --unit=killed-drill --no-block golive-backup drill --repository 1;"
        f" until ls {STATE}/scratch/drill-*/postmaster.pid >/dev/null 2>&1; do sleep 0.1; done;"
        " systemctl kill -s KILL killed-drill"
    )
    host.check_output("systemctl reset-failed killed-drill || true")
    assert host.check_output(f"ls -A {STATE}/scratch") != ""
    assert good(host, "drill", "--repository", "1")["result"] == "passed"
    assert host.check_output(f"ls -A {STATE}/scratch") == ""
    assert run(host, "check").rc == 0
