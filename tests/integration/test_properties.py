# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any schema and any values: each value is kept exactly or listed by row, never changed.

Hypothesis makes the schemas. The policy quarantine shows every listed value; the policy fail
must count the same ones and leave nothing behind. GOLIVE_TEST_EXAMPLES=500 tries that many other
ones.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

hypothesis = pytest.importorskip("hypothesis")
psycopg2 = pytest.importorskip("psycopg2")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (  # noqa: E402
    MigrationError,
)
from tests.integration.cases.compare import (  # noqa: E402
    original,
    same,
    same_converted,
    storage_class,
    text_of,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Database

MORE = int(os.environ.get("GOLIVE_TEST_EXAMPLES", "0"))
BOUNDED = settings(
    max_examples=MORE or 25,
    derandomize=not MORE,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
DECLARED = [
    "INTEGER", "BIGINT", "BOOLEAN", "REAL", "DOUBLE PRECISION", "NUMERIC", "NUMERIC(8, 3)", "TEXT",
    "VARCHAR(6)", "BLOB", "DATE", "DATETIME", "TIMESTAMP", "TIME", "JSON", "UUID", "", "ODD",
]  # fmt: skip
# What an application's own schema has for a column of SQLite.
EXISTING = [
    ("INTEGER", "integer"), ("INTEGER", "smallint"), ("INTEGER", "bigint"), ("BOOL", "boolean"),
    ("REAL", "real"), ("REAL", "double precision"), ("DECIMAL", "numeric(6,2)"),
    ("CHAR(32)", "uuid"), ("BIGINT", "interval"), ("DATETIME", "interval"),
    ("DATETIME", "timestamp with time zone"), ("INTEGER", "timestamp with time zone"),
    ("DATETIME", "date"), ("DATE", "date"), ("TIME", "time"), ("TEXT", "jsonb"),
    ("VARCHAR(9)", "character varying(4)"), ("INTEGER", "text"), ("BLOB", "bytea"),
    ("DATETIME", "timestamp(0) without time zone"), ("TEXT", "inet"),
]  # fmt: skip

texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "\\N", "\\.", "a\x00b", "now", "infinity", "NaN", "true", "12", "1e3", "-0.0", "{}",
         '{"a": [1.10, "\\u0000"]}', "[1, 2", "null", "0000-00-00", "24:00", "10:00:00.5", "::1",
         "6ba7b8109dad11d180b400c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]
    ),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
    st.datetimes().map(lambda d: d.strftime("%Y-%m-%d 00:00:00") if d.year > 999 else "x"),
    st.times().map(str),
)  # fmt: skip
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.integers(10**9, 2 * 10**9),
    st.integers(10**12, 2 * 10**12),
    st.floats(allow_nan=False),
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
)
values = st.one_of(st.none(), texts, numbers, st.binary(max_size=6), st.just(b"\xff" * 16))


@st.composite
def tables(draw: Any) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.sampled_from(DECLARED), min_size=1, max_size=5))
        made.append(
            {
                "name": f"t{number}",
                "key": draw(st.sampled_from(["rowid", "alias", "text"])),
                "columns": [
                    {
                        "name": f"c{i}",
                        "declared": kind,
                        "not_null": draw(st.integers(0, 4)) == 0,
                        "values": draw(st.sampled_from([values, values, texts, numbers])),
                    }
                    for i, kind in enumerate(kinds)
                ],
                "rows": draw(st.integers(0, 8)),
            }
        )
    for table in made:
        table["data"] = [
            [
                draw(c["values"].filter(lambda v: v is not None) if c["not_null"] else c["values"])
                for c in table["columns"]
            ]
            for _row in range(table["rows"])
        ]
    return made


Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def ask(database: Database) -> Iterator[Ask]:
    """Queries over one connection, as a new one for each costs more than the query."""
    connection = psycopg2.connect(database.url)
    connection.autocommit = True

    def query(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    yield query
    connection.close()


KEYS = {
    "rowid": ("", ""),
    "alias": ("id INTEGER PRIMARY KEY, ", ""),
    "text": ("id TEXT PRIMARY KEY, ", " WITHOUT ROWID"),
}


def write(path: Path, made: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    for table in made:
        key, tail = KEYS[table["key"]]
        columns = ", ".join(
            f"{c['name']} {c['declared']}{' NOT NULL' if c['not_null'] else ''}"
            for c in table["columns"]
        )
        connection.execute(f"CREATE TABLE {table['name']} ({key}{columns}){tail}")
        for number, row in enumerate(table["data"]):
            given_key = {"rowid": [], "alias": [number + 1], "text": [f"k{number}"]}[table["key"]]
            marks = ", ".join("?" * (len(row) + len(given_key)))
            connection.execute(f"INSERT INTO {table['name']} VALUES ({marks})", [*given_key, *row])
    connection.commit()
    connection.close()


def read_source(path: Path, table: dict[str, Any]) -> dict[Any, list[Any]]:
    connection = sqlite3.connect(path)
    connection.text_factory = text_of
    label = "rowid" if table["key"] != "text" else "id"
    names = ", ".join(c["name"] for c in table["columns"])
    rows = connection.execute(f"SELECT {label}, {names} FROM {table['name']}").fetchall()
    connection.close()
    return {row[0]: list(row[1:]) for row in rows}


def read_target(ask: Ask, schema: str, table: dict[str, Any]) -> list[list[Any]]:
    """In the order of the load, as a table without a key has nothing else to go by."""
    kinds = dict(
        ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{schema}.{table['name']}'::regclass AND attnum > 0"
        )
    )
    table["kinds"] = [kinds[c["name"]] for c in table["columns"]]
    as_text = ("json", "jsonb", "inet")
    shown = ", ".join(
        c["name"] + ("::text" if kinds[c["name"]] in as_text else "") for c in table["columns"]
    )
    rows = ask(f"SELECT {shown} FROM {schema}.{table['name']} ORDER BY ctid")
    return [list(row) for row in rows]


def set_aside(ask: Ask, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    """The quarantine's rows; its table is only made when it is needed."""
    there = ask("SELECT to_regclass('golive_webstack.quarantine') IS NOT NULL")
    return ask(sql, parameters) if there == [(True,)] else []


def judge(
    ask: Ask, schema: str, path: Path, made: list[dict[str, Any]], plan: dict[str, Any]
) -> int:
    """Every value of every row is where it must be; returns how many are listed."""
    listed: dict[tuple[str, Any], dict[str, tuple[str, bytes | None, bool]]] = {}
    for name, column, key, storage, kept, whole in set_aside(
        ask,
        "SELECT table_name, column_name, row_key, storage_class, original, whole_row "
        "FROM golive_webstack.quarantine WHERE schema_name = %s",
        (schema,),
    ):
        label = next(iter(key.values()))
        bytes_kept = None if kept is None else bytes(kept)
        listed.setdefault((name, label), {})[column] = (storage, bytes_kept, whole)
    count = 0
    for table, planned in zip(made, plan["tables"]):
        conversions = {c["name"]: c["conversion"] for c in planned["columns"]}
        there = iter(read_target(ask, schema, table))
        for label, here in read_source(path, table).items():
            moved = listed.get((table["name"], label), {})
            if any(whole for _storage, _kept, whole in moved.values()):
                for column, value in zip(table["columns"], here):
                    _same_original(value, *moved[column["name"]][:2])
                count += 1
                continue
            for column, kind, value, found in zip(
                table["columns"], table["kinds"], here, next(there)
            ):
                name = column["name"]
                if name in moved:
                    assert found is None
                    _same_original(value, *moved[name][:2])
                    count += 1
                elif plan["mode"] == "existing":
                    assert same_converted(value, found, kind, conversions[name]), (name, kind)
                else:
                    assert same(value, found), (name, kind)
        assert next(there, None) is None
    return count


def _same_original(value: Any, storage: str, kept: bytes | None) -> None:
    if value is None:
        assert storage == "null" and kept is None
    else:
        assert storage == storage_class(value)
        assert kept == original(value)


@BOUNDED
@given(made=tables())
def test_any_schema_and_values(
    database: Database, ask: Ask, tmp_path: Path, made: list[dict[str, Any]]
) -> None:
    path = tmp_path / "made.db"
    write(path, made)
    schema = f"s{next(NUMBERS)}"
    outcome = database.migrate(path, schema=schema, on_bad_value="quarantine")
    listed = judge(ask, schema, path, made, outcome.plan)
    again = f"s{next(NUMBERS)}"
    if not listed:
        assert database.migrate(path, schema=again).changed
        return
    with pytest.raises(MigrationError) as caught:
        database.migrate(path, schema=again)
    # A row that goes as a whole may have several bad values.
    assert sum(entry["count"] for entry in caught.value.details["bad_values"]) >= listed
    assert ask(f"SELECT to_regnamespace('{again}')") == [(None,)]


NUMBERS = itertools.count(1)


@BOUNDED
@given(
    columns=st.lists(
        st.tuples(
            st.sampled_from(EXISTING), st.sampled_from([values, texts, numbers]), st.booleans()
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_any_values_into_an_existing_schema(
    database: Database, ask: Ask, tmp_path: Path, columns: list[Any], data: Any
) -> None:
    rows = data.draw(st.integers(1, 8))
    table = {
        "name": "t0",
        "key": "alias",
        "columns": [
            {"name": f"c{i}", "declared": declared, "not_null": False}
            for i, ((declared, _kind), _values, _strict) in enumerate(columns)
        ],
        "data": [[data.draw(source) for _pair, source, _s in columns] for _row in range(rows)],
    }
    path = tmp_path / "made.db"
    write(path, [table])
    schema = f"s{next(NUMBERS)}"
    body = ", ".join(
        f"c{i} {kind}{' NOT NULL' if strict else ''}"
        for i, ((_declared, kind), _values, strict) in enumerate(columns)
    )
    ask(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t0 (id serial, {body})")
    outcome = database.migrate(
        path, schema=schema, target_schema_mode="existing", on_bad_value="quarantine"
    )
    judge(ask, schema, path, [table], outcome.plan)


def test_floats_stay_bit_by_bit(database: Database, ask: Ask, tmp_path: Path) -> None:
    """The property's own comparison is bit by bit, too: -0.0 is another value than 0.0."""
    assert not same(-0.0, 0.0) and same(-0.0, -0.0)
    path = tmp_path / "made.db"
    table = {
        "name": "t0",
        "key": "alias",
        "columns": [{"name": "c0", "declared": "REAL", "not_null": False}],
        "data": [[-0.0], [5e-324], [struct.unpack(">d", b"\x7f\xef" + b"\xff" * 6)[0]], [0.1]],
    }
    write(path, [table])
    outcome = database.migrate(path, on_bad_value="quarantine")
    assert judge(ask, "public", path, [table], outcome.plan) == 0
