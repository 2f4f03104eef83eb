# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the dumps that converge.yml asked for can be relied on, and what happens to bad ones."""

from __future__ import annotations

import datetime
import json

import pytest

FOLDER = "/srv/golive backups/dumps"
PORT = 5434
DATABASES = ["shop", "odd Name's"]
TIME = "%Y%m%dT%H%M%SZ"
ROWS = {
    "public.orders": 20000,
    "public.parts": 100,
    "public.empty_one": 0,
    'other Schema.it\'s "one" ü': 2,
}

pytestmark = pytest.mark.units("golive-backup.service", "golive-backup.timer")


def as_postgres(host, command, *arguments):
    return host.run("runuser -u postgres -- " + command, *arguments)


def backup(host, command):
    return as_postgres(host, f"golive-backup {command}")


def sql(host, query, database="postgres"):
    done = as_postgres(host, f"psql -XAtq -p {PORT} -d %s -c %s", database, query)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def manifests(host, database="shop"):
    """The newest first."""
    names = host.check_output("ls -r %s", f"{FOLDER}/{database}").splitlines()
    paths = [f"{FOLDER}/{database}/{name}" for name in names if name.endswith(".dump.json")]
    return [json.loads(host.file(path).content_string) for path in paths]


def write(host, path, text):
    done = as_postgres(host, 'sh -c \'printf %%s "$1" > "$0"\' %s %s', path, text)
    assert done.rc == 0, done.stderr


def age(host, manifest, days):
    """Make a dump look older than it is: what its name says, and its manifest."""
    started = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days)
    stamp = started.strftime(TIME)
    path = f"{FOLDER}/{manifest['database']}/{manifest['database']}_{stamp}.dump"
    assert as_postgres(host, "cp %s %s", manifest["file"], path).rc == 0
    write(host, path + ".json", json.dumps({**manifest, "file": path, "started": stamp}))
    return path


def flip_a_byte(host, path):
    script = (
        "import sys\nwith open(sys.argv[1], 'r+b') as f:\n"
        " f.seek(0, 2)\n f.seek(f.tell() // 2)\n byte = f.read(1)[0]\n"
        " f.seek(-1, 1)\n f.write(bytes([byte ^ 0x55]))"
    )
    host.check_output("python3 -c %s %s", script, path)


@pytest.fixture
def fresh(host):
    """A good, new dump of each database before the test, and again after it."""
    done = backup(host, "ensure")
    assert done.rc == 0, done.stderr
    yield manifests(host)[0]
    for manifest in manifests(host):
        host.check_output("rm -f %s %s", manifest["file"], manifest["file"] + ".json")
    done = backup(host, "ensure")
    assert done.rc == 0, done.stderr


@pytest.mark.parametrize("database", DATABASES)
def test_the_play_left_a_dump_that_was_restored_once(host, database):
    newest = manifests(host, database)[0]
    assert newest["database"] == database
    assert newest["rows"] == ROWS
    assert newest["drill"]["rows"] == sum(ROWS.values())
    assert newest["bytes"] == host.file(newest["file"]).size
    assert newest["sha256"] == host.check_output("sha256sum < %s", newest["file"]).split()[0]


@pytest.mark.parametrize("database", DATABASES)
def test_a_dump_is_restored_by_plain_postgresql_tools(host, database):
    sql(host, "CREATE DATABASE by_hand TEMPLATE template0")
    try:
        done = as_postgres(
            host, f"pg_restore -e -p {PORT} -d by_hand %s", manifests(host, database)[0]["file"]
        )
        assert done.rc == 0, done.stderr
        everything = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o"
        assert sql(host, everything, "by_hand") == sql(host, everything, database)
        odd = 'SELECT v FROM "other Schema"."it\'s ""one"" ü" WHERE v IS NOT NULL'
        assert sql(host, odd, "by_hand") == '{"a": "ü€😀"}'
        assert sql(host, "SELECT * FROM seen", "by_hand") == "20000"
    finally:
        sql(host, "DROP DATABASE by_hand")


def test_the_service_makes_a_dump_of_now(host, fresh):
    sql(host, "INSERT INTO orders (code) VALUES ('one more')", "shop")
    try:
        host.check_output("sleep 1; systemctl start golive-backup.service")
        newest = manifests(host)[0]
        assert newest["started"] > fresh["started"]
        assert newest["rows"]["public.orders"] == ROWS["public.orders"] + 1
        assert newest["drill"] is None
        assert backup(host, "dump-drill").rc == 0
        assert manifests(host)[0]["drill"]["rows"] == sum(ROWS.values()) + 1
    finally:
        sql(host, "DELETE FROM orders WHERE code = 'one more'", "shop")


def test_the_drill_leaves_nothing_behind(host):
    assert backup(host, "dump-drill").rc == 0
    names = sql(host, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
    assert names.splitlines() == sorted(["postgres", *DATABASES])


def test_one_changed_byte_fails_the_drill(host, fresh):
    flip_a_byte(host, fresh["file"])
    done = backup(host, "dump-drill")
    assert done.rc != 0
    assert "SHA-256 is not the recorded one" in done.stderr
    flip_a_byte(host, fresh["file"])
    assert backup(host, "dump-drill").rc == 0


def test_a_changed_byte_fails_the_drill_even_with_its_own_checksum(host, fresh):
    flip_a_byte(host, fresh["file"])
    changed = host.check_output("sha256sum < %s", fresh["file"]).split()[0]
    write(host, fresh["file"] + ".json", json.dumps({**fresh, "sha256": changed}))
    done = backup(host, "dump-drill")
    assert done.rc != 0
    assert "pg_restore ended with" in done.stderr
    assert "golive_drill" not in sql(host, "SELECT datname FROM pg_database")


def test_a_row_too_few_fails_the_drill(host, fresh):
    rows = {**fresh["rows"], "public.parts": 101}
    write(host, fresh["file"] + ".json", json.dumps({**fresh, "rows": rows}))
    done = backup(host, "dump-drill")
    assert done.rc != 0
    assert "public.parts: 101 dumped, 100 restored" in done.stderr


def test_what_a_killed_run_left_goes_with_the_next(host, fresh):
    left = f"{FOLDER}/shop/shop_20200101T000000Z.dump.partial"
    write(host, left, "cut short")
    assert len(manifests(host)) == 1
    host.check_output("sleep 1; systemctl start golive-backup.service")
    assert not host.file(left).exists
    assert len(manifests(host)) == 2


def test_old_dumps_go_and_young_ones_stay(host, fresh):
    gone = [age(host, fresh, days) for days in (30, 3.1)]
    kept = [age(host, fresh, days) for days in (2.9, 1)]
    host.check_output("sleep 1; systemctl start golive-backup.service")
    files = [manifest["file"] for manifest in manifests(host)]
    assert files[1:] == [fresh["file"], *reversed(kept)]
    for path in gone:
        assert not host.file(path).exists
        assert not host.file(path + ".json").exists


def test_the_last_dump_never_goes_and_is_called_late(host, fresh):
    path = age(host, fresh, 90)
    host.check_output("rm %s %s", fresh["file"], fresh["file"] + ".json")
    status = backup(host, "status")
    assert status.rc == 1
    told = {one["database"]: one["problem"] for one in json.loads(status.stdout)["databases"]}
    assert "hours old" in status.stderr
    assert "hours old" in told["shop"]
    assert told["odd Name's"] == ""
    # A backup that can't be made takes nothing away.
    done = as_postgres(host, "sh -c 'ulimit -f 20; exec golive-backup run'")
    assert done.rc != 0
    assert host.file(path).exists
    assert backup(host, "ensure").rc == 0
    assert not host.file(path).exists
    assert backup(host, "status").rc == 0


def test_a_full_disk_is_an_error_and_leaves_no_half_dump(host, fresh):
    folder = f"{FOLDER}/shop"
    mount = "mount -t tmpfs -o size=2m,uid=$(id -u postgres),mode=700 none"
    host.check_output(f"{mount} %s", folder)
    try:
        done = backup(host, "run")
        assert done.rc != 0
        assert "Nothing was written" in done.stderr
        assert host.check_output("ls -A %s", folder) == ""
    finally:
        host.check_output("umount %s", folder)
    # The same where the space ends half-way: no file may grow beyond 20 KB.
    before = host.check_output("ls -A %s", folder)
    done = as_postgres(host, "sh -c 'ulimit -f 40; exec golive-backup run'")
    assert done.rc != 0
    assert "pg_dump" in done.stderr
    assert host.check_output("ls -A %s", folder) == before


def test_a_server_that_is_away_is_an_error(host, fresh):
    host.check_output("systemctl stop 'postgresql@*'")
    try:
        done = host.run("systemctl start golive-backup.service")
        assert done.rc != 0
        assert "golive-backup" in host.check_output("systemctl --failed --plain --no-legend")
        assert len(manifests(host)) == 1
    finally:
        host.check_output("pg_ctlcluster $(pg_lsclusters -h | cut -d' ' -f1) main start")
        host.check_output("systemctl reset-failed golive-backup")


def test_the_timer_is_at_two_o_clock_utc(host):
    timer = host.service("golive-backup.timer")
    assert timer.is_enabled
    assert timer.is_running
    told = host.check_output("systemctl show golive-backup.timer -p TimersCalendar -p Persistent")
    assert "OnCalendar=*-*-* 02:00:00 UTC" in told
    assert "Persistent=yes" in told
    after = host.check_output(
        'date -u +%H:%M:%S -d "$(systemctl show golive-backup.timer'
        ' --timestamp=utc -p NextElapseUSecRealtime --value)"'
    )
    assert after == "02:00:00"


def test_dumps_are_for_postgres_only(host):
    folder = host.file(FOLDER)
    assert (folder.user, folder.group, folder.mode) == ("postgres", "postgres", 0o700)
    assert host.run("runuser -u nobody -- ls %s", FOLDER).rc != 0
    assert host.check_output("find %s -perm /077 -type d", FOLDER) == ""


def test_the_services_may_write_little(host):
    for unit in ("golive-backup", "golive-backup-full", "golive-backup-drill"):
        told = host.check_output(
            f"systemctl show {unit} -p NoNewPrivileges,ProtectSystem,CapabilityBoundingSet"
        )
        assert set(told.splitlines()) == {
            "NoNewPrivileges=yes", "ProtectSystem=strict",
            "CapabilityBoundingSet=cap_dac_override cap_kill cap_setgid cap_setuid",
        }  # fmt: skip


def test_a_dump_without_a_manifest_goes_with_the_next(host, fresh):
    left = f"{FOLDER}/shop/shop_20200101T000000Z.dump"
    write(host, left, "cut short between two renames")
    assert backup(host, "run").rc == 0
    assert not host.file(left).exists


def test_a_database_of_the_user_is_no_scratch(host):
    sql(host, "CREATE DATABASE golive_drill")
    try:
        sql(host, "CREATE TABLE mine (v int)", "golive_drill")
        assert backup(host, "dump-drill").rc == 0
        assert sql(host, "SELECT count(*) FROM mine", "golive_drill") == "0"
    finally:
        sql(host, "DROP DATABASE golive_drill")
