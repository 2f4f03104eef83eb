# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts and times of the requests in an nginx access log, of the wanted end of it only."""

from __future__ import annotations

import datetime
import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

BLOCK = 1 << 20
# Below this, reading on is as fast as another step of the search.
NEAR = 1 << 16
PERCENTILES = (50, 95, 99)
# A WebSocket's request lasts as long as its connection: no answer that somebody waits for.
SWITCHED = 101

_TIMED = re.compile(
    rb"(?P<address>\S+) - .*? \[(?P<time>[^\]]+)\] "
    rb'"(?P<request>[^"]*)" (?P<status>\d{3}) \S+ "[^"]*" "[^"]*" '
    rb"(?P<seconds>[\d.]+) (?P<upstream_seconds>[\d.,: -]+) (?P<id>\S+)"
    rb'(?: "(?P<upstream>[^"]*)" "(?P<release>[^"]*)")?\s*$'
)
_TIME_IN_LINE = re.compile(rb'\[(\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4})\]|"timestamp": ?"([^"]+)"')
_SEPARATORS = re.compile(r", | : ")


class RequestStatsError(Exception):
    """A log that can't be read; the text names it and the cause."""


@dataclass(frozen=True)
class Request:
    """What one line tells."""

    status: int
    seconds: float
    path: str
    upstream: str
    release: str


@dataclass(frozen=True)
class Position:
    """Where reading ended: the file, as its inode, and the offset in it."""

    offset: int
    inode: int


@dataclass
class Group:
    """Requests that have something in common."""

    requests: int = 0
    errors: int = 0
    times: array[float] = field(default_factory=lambda: array("d"))

    def add(self, request: Request) -> None:
        self.requests += 1
        self.errors += request.status >= 500
        if request.status != SWITCHED:
            self.times.append(request.seconds)

    def told(self) -> dict[str, Any]:
        ordered = sorted(self.times)
        told: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.errors,
            "error_percent": round(100.0 * self.errors / self.requests, 3)
            if self.requests
            else 0.0,
        }
        for percent in PERCENTILES:
            told[f"p{percent}_ms"] = percentile(ordered, percent)
        return told


@dataclass
class Stats:
    """The sums over all lines that were wanted."""

    total: Group = field(default_factory=Group)
    by_upstream: dict[str, Group] = field(default_factory=dict)
    by_release: dict[str, Group] = field(default_factory=dict)
    by_status: dict[int, int] = field(default_factory=dict)
    unreadable: int = 0

    def add(self, request: Request) -> None:
        self.total.add(request)
        self.by_upstream.setdefault(request.upstream or "nginx", Group()).add(request)
        if request.release:
            self.by_release.setdefault(request.release, Group()).add(request)
        self.by_status[request.status] = self.by_status.get(request.status, 0) + 1


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest rank, in milliseconds; None without any."""
    if not ordered:
        return None
    rank = -(-percent * len(ordered) // 100)
    return round(ordered[max(rank, 1) - 1] * 1000, 1)


def _last(upstreams: str) -> str:
    """The instance that gave the answer, of those that were tried."""
    last = _SEPARATORS.split(upstreams)[-1].strip()
    return "" if last == "-" else last


def _text(value: Any) -> str:
    return "" if value in (None, "-") else str(value)


def parse(line: bytes) -> Request | None:
    """A line of the timed format or of the JSON format; None for any other."""
    if line.startswith(b"{"):
        try:
            told = json.loads(line)
            return Request(
                status=int(told["status"]),
                seconds=float(told["request_time"]),
                path=str(told.get("path", "")),
                upstream=_last(_text(told.get("upstream_addr"))),
                release=_text(told.get("release")),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    match = _TIMED.match(line)
    if match is None:
        return None
    # "GET /path HTTP/1.1"; a request that nginx could not read is logged as it came.
    parts = match["request"].split(b" ")
    path = parts[1] if len(parts) > 1 else b""
    return Request(
        status=int(match["status"]),
        seconds=float(match["seconds"]),
        path=path.decode("utf-8", "replace"),
        upstream=_last((match["upstream"] or b"").decode("utf-8", "replace")),
        release=_text((match["release"] or b"").decode("utf-8", "replace")),
    )


def line_time(line: bytes) -> float | None:
    """When the request of a line ended, in seconds since the epoch."""
    match = _TIME_IN_LINE.search(line)
    if match is None:
        return None
    try:
        if match[1]:
            told = datetime.datetime.strptime(match[1].decode(), "%d/%b/%Y:%H:%M:%S %z")
        else:
            told = datetime.datetime.fromisoformat(match[2].decode().replace("Z", "+00:00"))
        return told.timestamp()
    except ValueError:
        return None


def lines(path: str, begin: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines from an offset on, each with the offset after it."""
    with open(path, "rb") as stream:
        stream.seek(begin)
        rest = b""
        offset = begin
        while True:
            block = stream.read(BLOCK)
            if not block:
                return
            parts = (rest + block).split(b"\n")
            rest = parts.pop()
            for part in parts:
                offset += len(part) + 1
                yield offset, part


def first_since(path: str, since: float) -> int:
    """The offset of the first line that is not older, found by halving."""
    low, high = 0, os.stat(path).st_size
    with open(path, "rb") as stream:
        while high - low > NEAR:
            middle = (low + high) // 2
            stream.seek(middle)
            stream.readline()
            told: float | None = None
            begin = stream.tell()
            while told is None and stream.tell() < high:
                begin = stream.tell()
                told = line_time(stream.readline())
            if told is None or told >= since:
                high = middle
            else:
                low = begin
    # `low` is the begin of a line, or of the file.
    before = low
    for after, line in lines(path, low):
        told = line_time(line)
        if told is not None and told >= since:
            return before
        before = after
    return before


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _pieces(path: str, since: Position | None, since_time: float | None) -> list[tuple[str, int]]:
    """Which files to read, the older first, and from where."""
    rotated = f"{path}.1"
    now, older = _status(path), _status(rotated)
    pieces: list[tuple[str, int]] = []
    if since_time is not None:
        begin = first_since(path, since_time) if now else 0
        if begin == 0 and older:
            pieces.append((rotated, first_since(rotated, since_time)))
        return pieces + ([(path, begin)] if now else [])
    if since is None:
        raise AssertionError("since is not there yet")
    if now and (not since.inode or since.inode == now.st_ino) and now.st_size >= since.offset:
        return [(path, since.offset)]
    # Another file has the name now: the rest of the one that was read is beside it.
    if older and (not since.inode or since.inode == older.st_ino):
        if older.st_size >= since.offset:
            pieces.append((rotated, since.offset))
    return pieces + ([(path, 0)] if now else [])


def count(
    path: str,
    since: Position | None = None,
    since_time: float | None = None,
    wanted: Callable[[Request], bool] = lambda request: True,
) -> tuple[Stats, Position]:
    """Sums over the log from a position or a time on, and the position for the next call.

    A log that is not there yet has no requests. A line without its end is left for the next call.
    """
    if since is None and since_time is None:
        since = Position(0, 0)
    stats = Stats()
    end = 0
    try:
        for piece, begin in _pieces(path, since, since_time):
            end = begin
            for offset, line in lines(piece, begin):
                end = offset
                request = parse(line)
                if request is None:
                    stats.unreadable += bool(line.strip())
                elif wanted(request):
                    stats.add(request)
        status = _status(path)
    except OSError as error:
        raise RequestStatsError(f"{error.filename or path}: {error.strerror or error}.") from error
    return stats, Position(end if status else 0, status.st_ino if status else 0)


def end_of(path: str) -> Position:
    """The position after the last whole line, without reading the log."""
    status = _status(path)
    if status is None:
        return Position(0, 0)
    try:
        with open(path, "rb") as stream:
            begin = max(status.st_size - NEAR, 0)
            stream.seek(begin)
            tail = stream.read(status.st_size - begin)
    except OSError as error:
        raise RequestStatsError(f"{path}: {error.strerror or error}.") from error
    return Position(begin + tail.rfind(b"\n") + 1, status.st_ino)
