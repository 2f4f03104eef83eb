# SPDX-License-Identifier: GPL-3.0-or-later
"""What golive-backup decides: from pgBackRest's own output, from names, times and sums."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.backup import (
    cluster,
    common,
    drill,
    evidence,
    metrics,
    moment,
    pgbackrest,
    replace,
    restore,
)
from ansible_collections.golive.webstack.plugins.module_utils.backup.common import BackupError

UTC = datetime.timezone.utc


def entry(label: str, stop: int, kind: str = "full", **more: Any) -> dict[str, Any]:
    """As `pgbackrest --output=json info` of 2.45 and 2.55 prints a backup."""
    return {
        "annotation": {
            "golive": json.dumps({"name": f"golive-{label}", "time": "2026-01-01 00:00:00+00"})
        },
        "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000003"},
        "backrest": {"format": 5, "version": "2.45"}, "database": {"id": 1, "repo-key": 1},
        "error": False,
        "info": {"delta": 2317758, "repository": {"delta": 283168, "size": 28316}, "size": 231775},
        "label": label, "lsn": {"start": "0/2000028", "stop": "0/3000050"},
        "prior": None, "reference": None, "timestamp": {"start": stop - 2, "stop": stop},
        "type": kind, **more,
    }  # fmt: skip


def info(*backups: dict[str, Any], code: int = 0, message: str = "ok", db: Any = None) -> str:
    return json.dumps([{
        "archive": [{"database": {"id": 1, "repo-key": 1}, "id": "15-1",
                     "max": "000000010000000000000003", "min": "000000010000000000000001"}],
        "backup": list(backups), "cipher": "aes-256-cbc",
        "db": [{"id": 1, "repo-key": 1, "system-id": 77, "version": "15"}] if db is None else db,
        "name": "golive", "repo": [{"key": 1, "status": {"code": code, "message": message}}],
        "status": {"code": code, "message": message}}])  # fmt: skip


def test_what_a_repository_has() -> None:
    found = pgbackrest.parse_info(info(entry("b", 200, "diff"), entry("a", 100)), 1)
    assert [one.label for one in found.backups] == ["a", "b"]
    assert found.newest and found.newest.kind == "diff"
    assert found.current_system_id == 77
    assert found.wal_ids == {"15-1": ("000000010000000000000001", "000000010000000000000003")}
    assert found.newest.point and found.newest.point["name"] == "golive-b"


def test_backups_of_a_cluster_that_was_replaced_do_not_count() -> None:
    db = [{"id": 1, "repo-key": 1, "system-id": 77}, {"id": 2, "repo-key": 1, "system-id": 78}]
    old = entry("old", 100)
    new = {**entry("new", 200), "database": {"id": 2, "repo-key": 1}}
    found = pgbackrest.parse_info(info(old, new, db=db), 1)
    assert [one.label for one in found.backups] == ["new"]
    assert found.current_system_id == 78


def test_an_empty_place_has_no_cluster() -> None:
    found = pgbackrest.parse_info(info(code=1, message="missing stanza path", db=[]), 1)
    assert found.current_system_id is None
    assert found.newest is None


def test_a_repository_that_cannot_be_read_is_an_error_and_no_empty_one() -> None:
    wrong = info(code=99, message="[FormatError] unable to load info file '/x'\n\x08\ufffd\x00")
    with pytest.raises(BackupError, match="set backup_cipher_pass"):
        pgbackrest.parse_info(wrong, 1)
    forbidden = (
        "[ProtocolError] HTTP request failed with 403 (Forbidden):\n"
        "<Code>InvalidAccessKeyId</Code><Message>No such key</Message>"
    )
    with pytest.raises(BackupError, match="InvalidAccessKeyId: No such key.*backup_s3_key"):
        pgbackrest.parse_info(info(code=99, message=forbidden), 1)
    with pytest.raises(BackupError, match="no JSON"):
        pgbackrest.parse_info("", 1)


def test_the_newest_whole_backup_before_a_moment_is_chosen() -> None:
    found = pgbackrest.parse_info(
        info(entry("a", 100), entry("b", 200), entry("c", 300, error=True)), 1
    ).backups

    def chosen(*arguments: Any) -> str:
        one = pgbackrest.choose(found, *arguments)
        return one.label if one else ""

    assert chosen(None) == "b"
    assert chosen(common.from_epoch(200)) == "a"
    assert chosen(common.from_epoch(201)) == "b"
    assert chosen(common.from_epoch(100)) == ""
    assert chosen(None, "a") == "a"
    assert chosen(common.from_epoch(150), "b") == ""


NAMES = [f"0000000100000000000000{number:02X}" for number in range(2, 9)]


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ([], []),
        ([NAMES[3]], [NAMES[3]]),
        (NAMES[2:5], [f"{NAMES[2]} to {NAMES[4]}"]),
        ([NAMES[0]], [NAMES[0]]),
        (NAMES, []),
    ],
)
def test_gaps_in_archived_wal(lost: list[str], told: list[str]) -> None:
    assert pgbackrest.gaps([one for one in NAMES if one not in lost], NAMES[0]) == told


def test_wal_goes_on_over_the_end_of_a_log_file_and_into_another_timeline() -> None:
    there = ["0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"]
    assert pgbackrest.gaps(there, there[0]) == []
    assert pgbackrest.gaps([*there, "000000020000000100000000"], there[0]) == []
    assert pgbackrest.gaps([there[0], there[2]], there[0]) == [there[1]]


def test_segments_of_a_listing() -> None:
    listing = [
        "0000000100000000/000000010000000000000001-f2ce2423c42d25d55743df38448a4d370c25273f.zst",
        "000000010000000000000002.00000028.backup", ".", "0000000100000000",
        "000000010000000000000002-d7c8ed74c639d9a149dc5180fe1583e6f0bbaf7b.zst",
    ]  # fmt: skip
    assert pgbackrest.segments(listing) == ["000000010000000000000001", "000000010000000000000002"]


DUMPED = """\
rmgr: Transaction len (rec/tot):     34/    34, tx:        747, lsn: 0/0A0000C8, \
prev 0/0A000090, desc: COMMIT 2026-11-22 14:43:57.151004 UTC
rmgr: Transaction len (rec/tot):     82/   114, tx:        748, lsn: 0/0A000188, \
prev 0/0A000150, desc: COMMIT 2026-11-22 14:44:00.000001 UTC; inval msgs: catcache 11; sync
rmgr: Transaction len (rec/tot):     34/    34, tx:        749, lsn: 0/0B000188, \
prev 0/0A000150, desc: ABORT 2026-11-22 14:45:00.500000 UTC
"""


def test_commits_that_waldump_tells() -> None:
    found = moment.commits(DUMPED)
    assert [lsn for lsn, _when in found] == ["0/0A0000C8", "0/0A000188", "0/0B000188"]
    assert found[1][1] == datetime.datetime(2026, 11, 22, 14, 44, 0, 1, tzinfo=UTC)


def test_the_segment_of_a_moment_and_one_more() -> None:
    archived = {name: 100.0 + 10 * number for number, name in enumerate(NAMES)}
    assert moment.last_segment(archived, 115) == (NAMES[3], True)
    assert moment.last_segment(archived, 160) == (NAMES[6], True)
    assert moment.last_segment(archived, 161) == (NAMES[6], False)
    other = {"000000020000000000000009": 300.0, **archived}
    assert moment.last_segment(other, 200)[0] == "000000020000000000000009"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-01-31 14:05:00+00", "2026-01-31 14:05:00.000000+00"),
        ("2026-01-31T14:05Z", "2026-01-31 14:05:00.000000+00"),
        ("2026-01-31 14:05:00.25 +02:00", "2026-01-31 12:05:00.250000+00"),
        ("2026-01-31 14:05:00", "2026-01-31 14:05:00.000000+00"),
        ("2026-01-31 14:05:00-0330", "2026-01-31 17:35:00.000000+00"),
    ],
)
def test_times_that_people_write(text: str, told: str) -> None:
    assert common.told_time(common.parse_time(text)) == told


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30 10:00", "14:05", "2026-01-31"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(BackupError):
        common.parse_time(text)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"target": "now"}, "latest, time or name"),
        ({"target": "time"}, "restore_time has to be set"),
        ({"target": "name"}, "restore_name has to be set"),
        ({"time": "2020-01-01 00:00"}, "restore_target is latest"),
        ({"target": "time", "time": "2999-01-01 00:00"}, "in the future"),
        ({"replaces": "postgres"}, "PostgreSQL's own"),
        ({"replaces": "a", "whole_cluster": "15/main"}, "not both"),
    ],
)
def test_wishes_that_contradict_themselves(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(BackupError, match=said):
        restore.check_request(restore.Request(**wish))


def test_a_point_that_no_backup_knows() -> None:
    found = pgbackrest.parse_info(info(entry("a", 100)), 1)
    with pytest.raises(BackupError, match="golive-a .*restore_set"):
        restore.find(restore.Request(target="name", name="x"), None, [found])
    told = restore.find(restore.Request(target="name", name="golive-a"), None, [found])
    assert told.label == "a"
    with pytest.raises(BackupError, match="restore_set is 'z'"):
        restore.find(restore.Request(set="z"), None, [found])


@pytest.mark.parametrize("name", ["shop", "ü" * 31, "x" * 63])
def test_derived_names_fit(name: str) -> None:
    made = replace.derived(name, "before", "20260131T140500Z")
    assert len(made.encode()) <= 63
    assert replace.is_derived(made, "before")
    assert not replace.is_derived(made, "restored")
    assert not replace.is_derived(name, "before")


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        ("work_mem", "5MB", ["5MB"]),
        ("search_path", 'app, public, "$user"', ["app", "public", "$user"]),
        ("search_path", '"odd, ""one"""', ['odd, "one"']),
        ("search_path", '""', [""]),
        ("app.note", "a, b", ["a, b"]),
    ],
)
def test_settings_of_a_database_keep_their_entries(
    name: str, value: str, values: list[str]
) -> None:
    assert replace.setting_values(name, value) == values


def test_differences_are_told_by_table() -> None:
    def key(name: str) -> str:
        return evidence.table_name("public", name)

    then = {key("a"): [1, "5"], key("b"): [2, "6"], key("c"): [3, "7"], key("d"): [None, None]}
    found = {key("a"): [1, "5"], key("b"): [9, "6"], key("c"): [3, "8"]}
    assert evidence.differences(then, dict(then)) == []
    assert evidence.differences(then, found, "shop") == [
        "shop: public.b has 9 rows, 2 expected",
        "shop: public.c has its 3 rows, but not with the same content",
    ]
    assert evidence.differences({key("a"): [4, "1"]}, {}) == [
        "public.a is not there (4 rows expected)"
    ]


def test_evidence_survives_its_way_through_the_repository() -> None:
    sums = {"shop": {evidence.table_name("public", 'odd "ü"'): [3, "-17"]}}
    packed = evidence.packed({"databases": sums})
    assert evidence.unpacked(packed) == sums
    assert evidence.digest(evidence.unpacked(packed)) == evidence.digest(sums)
    many = {
        "shop": {
            evidence.table_name("s", f"{n * 7919 % 99991:x}"): [n, str(n**7)] for n in range(9000)
        }
    }
    assert evidence.packed({"databases": many}) == ""


def test_what_may_be_lost() -> None:
    assert drill.loss_window(100.0, 70.0, None) == 30.0
    assert drill.loss_window(100.0, 10.0, 80.0) == 20.0
    assert drill.loss_window(100.0, None, None, 5.0) == 95.0
    assert drill.loss_window(100.0, 101.0) == 0.0


def test_positions() -> None:
    assert drill.segment_start("00000001000000010000000A") == drill.position("1/A000000")
    assert drill.segment_start("000000010000000000000002", 1 << 26) == 2 << 26


def test_a_standby_gets_what_the_original_had() -> None:
    text = (
        "pg_control version number:            1300\n"
        "max_connections setting:              300\n"
        "max_prepared_xacts setting:           5\n"
    )
    assert cluster.control_settings(text) == {
        "max_connections": "300",
        "max_prepared_transactions": "5",
    }


def test_what_recovery_wrote_goes_and_the_users_settings_stay() -> None:
    text = (
        "work_mem = '9MB'\n# Recovery settings generated by pgBackRest restore on x\n"
        "restore_command = 'x'\nrecovery_target_time = 'y'\n"
    )
    assert restore.strip_recovery(text) == "work_mem = '9MB'\n"


def test_metrics_have_their_labels_and_no_line_can_be_broken() -> None:
    jobs = [
        {"kind": "dump", "name": 'a "b"\\\n', "last_success": 5.5, "success": 1, "bytes": 7},
        {"kind": "drill", "name": "repo1", "rto": 3, "rpo": 0.5, "success": 0},
    ]
    lines = metrics.render(jobs, {"golive_backup_wal_gap": {"repo1": 0}, "x": 2}).splitlines()
    assert 'golive_backup_last_run_success{kind="dump",name="a \\"b\\"\\\\\\n"} 1' in lines
    assert 'golive_restore_drill_rpo_seconds{name="repo1"} 0.5' in lines
    assert 'golive_backup_wal_gap{name="repo1"} 0' in lines
    assert not [line for line in lines if "size_bytes" in line and "drill" in line]


def test_settings_that_are_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="run the role backup"):
        common.load_settings(str(tmp_path / "none"))
    (tmp_path / "bad").write_text('{"port": 1}')
    with pytest.raises(BackupError, match="Run the role backup again"):
        common.load_settings(str(tmp_path / "bad"))


def test_space_is_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"has \d+ MB free and a dump takes about \d+ MB"):
        common.require_space(str(tmp_path / "a" / "b"), 1 << 60, "a dump")
    common.require_space(str(tmp_path), 1, "a dump")
