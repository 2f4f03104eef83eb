# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tables by checksums of ranges: PostgreSQL sends one digest for some thousand rows.

A range that differs is then compared row by row, so that table, column and rows are named.
A table with one whole-number key is cut into ranges of that key. Any other is cut by the
first bits of each row's own digest, and compared row by row as a whole if one of these differs.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from . import target as pg
from .compare_rows import Findings, Moved, Packer, Pair, compare_rows, pg_quote, row_batches
from .source import SourceDatabase, quote_sqlite
from .verify_codec import Row, compile_packer, record_bytes

RANGE_ROWS = 4096
_RANGE_BYTES = 16 << 20
_WAITING = 4
_RANGES_LISTED = 20
_SAMPLE = 5

_ByColumn = dict[tuple[str, str], Moved]


def compare_checksums(
    connection: Any,
    source: SourceDatabase,
    pair: Pair,
    findings: Findings,
    seen: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    if pair.natural and len(pair.key) == 1 and pair.fields[pair.key[0]].type.startswith("int"):
        return _by_key(connection, source, pair, findings, seen)
    return _by_digest(connection, source, pair, findings, seen)


def _row_sql(pair: Pair) -> str:
    expressions = ", ".join(made.expression for made in pair.fields)
    return f"pg_catalog.record_send(ROW({expressions}))"


class _Records:
    """Rows of the source as record_send() gives them in the target."""

    def __init__(self, pair: Pair, moved: _ByColumn) -> None:
        self.pair = pair
        self.packer = Packer(pair, moved)
        self._fast = compile_packer(pair.fields, len(pair.labels), record=True)

    def batch(self, rows: list[Row]) -> list[bytes]:
        if not self.pair.mixed:
            try:
                return self._fast(rows)
            except Exception:  # any value that isn't what its column usually holds
                pass
        return list(self._carefully(rows))

    def _carefully(self, rows: list[Row]) -> Iterator[bytes]:
        for row in rows:
            bodies = self.packer.bodies(self.packer.marked(row))
            # No digest is equal to that of no bytes: the range is then compared row by row.
            yield b"?" if bodies is None else record_bytes(self.pair.fields, bodies)


def _by_key(
    connection: Any,
    source: SourceDatabase,
    pair: Pair,
    findings: Findings,
    seen: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Ranges end where the source has had its rows, so that gaps in the key cost nothing."""
    moved: _ByColumn = {}
    records = _Records(pair, {})
    key = pair.key[0]
    here, there = quote_sqlite(pair.fields[key].name), pg_quote(pair.fields[key].target)
    ask = (
        f"SELECT count(*), pg_catalog.sha256(coalesce(pg_catalog.string_agg({_row_sql(pair)}, "
        f"''::bytea), ''::bytea)) FROM (SELECT * FROM {pair.full_name}"
    )
    whole = hashlib.sha256()
    before = findings.total
    differing: list[tuple[str, str]] = []
    waiting: deque[tuple[Future[Any], bytes, int, str, str, _ByColumn]] = deque()
    figures: dict[str, Any] = {"source_rows": 0, "target_rows": 0, "ranges": 0}

    def answered() -> None:
        future, digest, count, condition, other, in_range = waiting.popleft()
        target_count, target_digest = future.result()[0]
        figures["target_rows"] += target_count
        figures["ranges"] += 1
        if target_count != count or bytes(target_digest) != digest:
            differing.append((other, condition))
        else:
            _add(moved, in_range)
        if seen:
            seen(count)

    pg.execute(connection, "SET LOCAL max_parallel_workers_per_gather = 0")
    with ThreadPoolExecutor(1) as asking:
        lower: int | None = None
        for rows, last in _ranges(source, pair, records, here):
            digest = hashlib.sha256()
            for packed in rows:
                digest.update(packed)
            figures["source_rows"] += last[0]
            bounds = [] if lower is None else [f" > {lower}"]
            bounds += [] if last[1] is None else [f" <= {last[1]}"]
            condition, other = _where(there, bounds), _where(here, bounds)
            lower = last[1]
            whole.update(digest.digest())
            query = f"{ask}{condition} ORDER BY {there}) AS part"
            future = asking.submit(pg.fetch, connection, query)
            in_range, records.packer.moved = records.packer.moved, {}
            waiting.append((future, digest.digest(), len(rows), condition, other, in_range))
            if len(waiting) >= _WAITING:
                answered()
        while waiting:
            answered()
    for other, condition in differing:
        part = compare_rows(connection, source, pair, findings, None, (other, condition))
        _add(moved, _by_column(part))
    figures["differences"] = findings.total - before
    figures["ranges_that_differ"] = len(differing)
    figures["ranges_listed"] = [there + condition for _here, condition in differing][
        :_RANGES_LISTED
    ]
    figures["checksum"] = whole.hexdigest()
    figures["moved"] = _moved(moved)
    return figures


def _where(column: str, bounds: list[str]) -> str:
    return " WHERE " + " AND ".join(column + bound for bound in bounds) if bounds else ""


def _ranges(
    source: SourceDatabase, pair: Pair, records: _Records, key: str
) -> Iterator[tuple[list[bytes], tuple[int, int | None]]]:
    """Packed rows, their count in the source and the last key; the last range has no end."""
    sql = f"SELECT {records.packer.select()} FROM {quote_sqlite(pair.name)} ORDER BY {key}"
    factory = bytearray if pair.mixed else bytes
    rows: list[bytes] = []
    count = size = 0
    last: int | None = None
    place = pair.key[0]
    for batch in row_batches(source, sql, factory, pair.large):
        if count >= RANGE_ROWS or size >= _RANGE_BYTES:
            yield rows, (count, last)
            rows, count, size = [], 0, 0
        packed = records.batch(batch)
        rows += packed
        count += len(batch)
        size += sum(map(len, packed))
        last = batch[-1][place]
    yield rows, (count, None)


def _moved(moved: _ByColumn) -> list[dict[str, Any]]:
    return [
        {"column": c, "policy": w.split(": ")[0], "what": w.split(": ")[1]}
        | {"count": entry.count, "rows": entry.rows}
        for (c, w), entry in moved.items()
    ]


def _by_column(part: dict[str, Any]) -> _ByColumn:
    return {
        (entry["column"], f"{entry['policy']}: {entry['what']}"): Moved(
            entry["count"], entry["rows"]
        )
        for entry in part["moved"]
    }


def _add(moved: _ByColumn, more: _ByColumn) -> None:
    for name, entry in more.items():
        known = moved.setdefault(name, Moved())
        known.count += entry.count
        known.rows = (known.rows + entry.rows)[:_SAMPLE]


def _by_digest(
    connection: Any,
    source: SourceDatabase,
    pair: Pair,
    findings: Findings,
    seen: Callable[[int], None] | None,
) -> dict[str, Any]:
    """The digests of all rows, sorted and cut by their first twelve bits."""
    moved: _ByColumn = {}
    records = _Records(pair, moved)
    query = (
        "SELECT pg_catalog.get_byte(d, 0) * 16 + pg_catalog.get_byte(d, 1) / 16, count(*), "
        "pg_catalog.sha256(pg_catalog.string_agg(d, ''::bytea ORDER BY d)) FROM (SELECT "
        f"pg_catalog.sha256({_row_sql(pair)}) AS d FROM {pair.full_name}) AS rows GROUP BY 1"
    )
    before = findings.total
    target = {number: (count, bytes(d)) for number, count, d in pg.fetch(connection, query)}
    own: dict[int, tuple[int, bytes]] = {}
    total = 0
    spool = sqlite3.connect("", isolation_level=None)
    try:
        spool.execute("PRAGMA cache_size = -8192")
        spool.execute("CREATE TABLE spool (digest)")
        spool.execute("BEGIN")
        sql = f"SELECT {records.packer.select()} FROM {quote_sqlite(pair.name)} NOT INDEXED"
        factory = bytearray if pair.mixed else bytes
        for batch in row_batches(source, sql, factory, pair.large):
            total += len(batch)
            spool.executemany(
                "INSERT INTO spool VALUES (?)",
                ((hashlib.sha256(packed).digest(),) for packed in records.batch(batch)),
            )
            if seen:
                seen(len(batch))
        spool.execute("COMMIT")
        number, count, digest = -1, 0, hashlib.sha256()
        for (one,) in spool.execute("SELECT digest FROM spool ORDER BY digest"):
            bucket = one[0] * 16 + one[1] // 16
            if bucket != number:
                if count:
                    own[number] = (count, digest.digest())
                number, count, digest = bucket, 0, hashlib.sha256()
            count += 1
            digest.update(one)
        if count:
            own[number] = (count, digest.digest())
    finally:
        spool.close()
    differing = [n for n in set(own) | set(target) if own.get(n) != target.get(n)]
    figures: dict[str, Any] = {
        "source_rows": total,
        "target_rows": sum(count for count, _digest in target.values()),
        "ranges": len(set(own) | set(target)),
        "ranges_that_differ": len(differing),
        "checksum": hashlib.sha256(b"".join(own[n][1] for n in sorted(own))).hexdigest(),
    }
    if differing:
        moved = _by_column(compare_rows(connection, source, pair, findings))
    figures["moved"] = _moved(moved)
    figures["differences"] = findings.total - before
    return figures
