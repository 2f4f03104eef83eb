# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts and times from nginx's access log: formats, ranges, rotation."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.request_stats import (
    Position,
    RequestStatsError,
    count,
    end_of,
    first_since,
    line_time,
    parse,
    percentile,
)

# As nginx 1.22 wrote them.
ANSWERED = (
    '10.0.0.9 - - [22/Nov/2026:10:49:36 +0000] "GET /api/rows?a=b HTTP/1.1" 200 273 "-" '
    '"Mozilla/5.0 (X11)" 0.123 0.120 9838b6b6391b8a5d745c4fc10c1d5dc4 "127.0.0.1:8001" "stable"'
)
RETRIED = (
    '10.0.0.9 - bob [22/Nov/2026:10:49:37 +0000] "POST /x HTTP/1.1" 502 150 "-" "-" 2.500 '
    '2.000, 0.500 0f "unix:/run/a.sock, unix:/run/b.sock" "canary"'
)
OWN = (
    '10.0.0.9 - - [22/Nov/2026:10:49:38 +0000] "\\x16\\x03\\x01" 400 150 "-" "-" 0.000 - 0a "-" "-"'
)
OLDER_FORMAT = (
    '10.0.0.9 - - [22/Nov/2026:10:49:38 +0000] "GET / HTTP/2.0" 304 0 "-" "a \\x22b\\x22" '
    "0.010 0.010 0b"
)
AS_JSON = json.dumps(
    {
        "timestamp": "2026-11-22T10:49:39+00:00",
        "path": "/api/rows?a=b",
        "status": 503,
        "request_time": 0.25,
        "upstream_addr": "127.0.0.1:8001, 127.0.0.1:8002",
        "release": "stable",
    }
)


def line(second: int, status: int = 200, seconds: float = 0.01, path: str = "/") -> str:
    at = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.timezone.utc)
    told = (at + datetime.timedelta(seconds=second)).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return (
        f'10.0.0.9 - - [{told}] "GET {path} HTTP/1.1" {status} 5 "-" "-" {seconds:.3f} '
        f'{seconds:.3f} {second:x} "127.0.0.1:8001" "stable"\n'
    )


def at(second: int) -> float:
    return datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.timezone.utc).timestamp() + second


@pytest.mark.parametrize(
    ("text", "status", "seconds", "path", "upstream", "release"),
    [
        (ANSWERED, 200, 0.123, "/api/rows?a=b", "127.0.0.1:8001", "stable"),
        (RETRIED, 502, 2.5, "/x", "unix:/run/b.sock", "canary"),
        (OWN, 400, 0.0, "", "", ""),
        (OLDER_FORMAT, 304, 0.01, "/", "", ""),
        (AS_JSON, 503, 0.25, "/api/rows?a=b", "127.0.0.1:8002", "stable"),
    ],
)
def test_lines_of_each_format(
    text: str, status: int, seconds: float, path: str, upstream: str, release: str
) -> None:
    told = parse(text.encode())
    assert told is not None
    assert (told.status, told.seconds, told.path) == (status, seconds, path)
    assert (told.upstream, told.release) == (upstream, release)
    assert line_time(text.encode()) is not None


@pytest.mark.parametrize("text", ["", "nonsense", "{", '{"status": "x"}', "[1]", '{"status": 200}'])
def test_other_lines_are_no_requests(text: str) -> None:
    assert parse(text.encode()) is None
    assert line_time(text.encode()) is None


def test_times_of_both_formats_are_the_same_moment() -> None:
    berlin = OWN.replace("10:49:39 +0000", "11:49:39 +0100").replace("10:49:38", "10:49:39")
    assert line_time(berlin.encode()) == line_time(AS_JSON.encode()) == at(49 * 60 + 39)


def test_percentiles_are_nearest_ranks() -> None:
    hundred = [number / 1000 for number in range(1, 101)]
    assert [percentile(hundred, of) for of in (50, 95, 99)] == [50.0, 95.0, 99.0]
    assert percentile([0.004], 99) == 4.0
    assert percentile([], 50) is None


def test_sums_over_a_whole_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join([ANSWERED, RETRIED, OWN, AS_JSON, "nonsense"]) + "\n")
    stats, position = count(str(log))
    total = stats.total.told()
    assert (total["requests"], total["errors"], total["error_percent"]) == (4, 2, 50.0)
    assert (total["p50_ms"], total["p95_ms"]) == (123.0, 2500.0)
    assert stats.unreadable == 1
    assert stats.by_status == {200: 1, 502: 1, 400: 1, 503: 1}
    by = {name: group.requests for name, group in stats.by_upstream.items()}
    assert by == {"127.0.0.1:8001": 1, "unix:/run/b.sock": 1, "nginx": 1, "127.0.0.1:8002": 1}
    assert {name: group.errors for name, group in stats.by_release.items()} == {
        "stable": 1,
        "canary": 1,
    }
    assert position == Position(log.stat().st_size, log.stat().st_ino)


def test_websockets_count_and_have_no_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line(1, 101, 3000.0) + line(2, 200, 0.02))
    told = count(str(log))[0].total.told()
    assert (told["requests"], told["p99_ms"]) == (2, 20.0)


def test_only_what_is_wanted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line(1, path="/api/a") + line(2, path="/static/a") + line(3, 503, path="/api/b"))
    stats, _unused = count(
        str(log), wanted=lambda one: one.path.startswith("/api/") and one.status != 503
    )
    assert stats.total.told()["requests"] == 1


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole, part = line(1), line(2)
    log.write_text(whole + part[:40])
    stats, position = count(str(log))
    assert stats.total.requests == 1
    assert position.offset == len(whole) == end_of(str(log)).offset
    log.write_text(whole + part)
    stats, position = count(str(log), position)
    assert stats.total.requests == 1
    assert position.offset == len(whole + part)


def test_a_log_that_is_not_there_has_no_requests(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert end_of(missing) == Position(0, 0)
    for since in (Position(0, 0), Position(500, 7), None):
        stats, position = count(missing, since, None if since else 5.0)
        assert (stats.total.requests, position) == (0, Position(0, 0))


def test_a_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestStatsError, match="Is a directory"):
        count(str(tmp_path))


@pytest.mark.parametrize("with_inode", [True, False])
def test_rotation_is_followed(tmp_path: Path, with_inode: bool) -> None:
    log = tmp_path / "log"
    log.write_text("".join(line(second) for second in range(10)))
    position = end_of(str(log))
    if not with_inode:
        position = Position(position.offset, 0)
    with log.open("a") as stream:
        stream.write(line(10, 500))
    os.rename(log, tmp_path / "log.1")
    log.write_text(line(11) + line(12, 502))
    stats, after = count(str(log), position)
    assert (stats.total.requests, stats.total.errors) == (3, 2)
    assert after == Position(log.stat().st_size, log.stat().st_ino)


def test_a_rotation_to_a_longer_file_is_seen_by_the_inode(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line(1))
    position = end_of(str(log))
    os.rename(log, tmp_path / "log.1")
    log.write_text("".join(line(second) for second in range(2, 12)))
    assert count(str(log), position)[0].total.requests == 10


def test_a_rotated_file_that_is_gone_costs_its_rest_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line(1) * 5)
    position = end_of(str(log))
    os.rename(log, tmp_path / "log.2")
    (tmp_path / "log.1").write_text(line(1) * 9)
    log.write_text(line(2))
    assert count(str(log), position)[0].total.requests == 1


@pytest.mark.parametrize("lines", [0, 1, 5, 3000])
@pytest.mark.parametrize("share", [0.0, 0.37, 0.999, 2.0])
def test_a_time_is_found_by_halving(tmp_path: Path, lines: int, share: float) -> None:
    log = tmp_path / "log"
    # Three lines in each second, and some that have no time.
    texts = [line(number // 3) if number % 50 else "no time here\n" for number in range(lines)]
    log.write_text("".join(texts))
    since = at(0) + int(lines / 3 * share)
    expected = sum(1 for text in texts if (line_time(text.encode()) or 0) >= since)
    assert count(str(log), None, since)[0].total.requests == expected


def test_a_time_before_the_rotation_reads_both_files(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "log.1").write_text("".join(line(second) for second in range(100)))
    log.write_text("".join(line(second) for second in range(100, 110)))
    assert count(str(log), None, at(95))[0].total.requests == 15
    assert count(str(log), None, at(105))[0].total.requests == 5


def test_the_wanted_end_of_a_big_log_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream:
        for second in range(40_000):
            stream.write(line(second))
    read: list[int] = []
    from ansible_collections.golive.webstack.plugins.module_utils import request_stats

    plain = request_stats.lines

    def counted(path: str, begin: int):  # type: ignore[no-untyped-def]
        read.append(log.stat().st_size - begin)
        yield from plain(path, begin)

    monkeypatch.setattr(request_stats, "lines", counted)
    assert count(str(log), None, at(39_990))[0].total.requests == 10
    assert max(read) < 2 * request_stats.NEAR
    assert first_since(str(log), at(50_000)) == log.stat().st_size
