# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The awkward cases: each value in each declared type, and each kind of schema.

`KEPT` says which values arrive exactly; all others must be listed by row. Of `STRUCTURES`,
each says what must hold in PostgreSQL, or what must be named as not carried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VALUES = {
    "null": "NULL",
    "zero": "0",
    "one": "1",
    "two": "2",
    "minus": "-1",
    "int4_over": "2147483648",
    "int8_max": "9223372036854775807",
    "int8_min": "-9223372036854775808",
    "int8_over": "9223372036854775808",
    "odd_over_double": "9007199254740993",
    "half": "0.5",
    "third": "1 / 3.0",
    "sum_of_tenths": "0.1 + 0.2",
    "huge": "1.7976931348623157e308",
    "tiny": "5e-324",
    "infinity": "9e999",
    "minus_infinity": "-9e999",
    "epoch": "1700000000",
    "epoch_ms": "1700000000123",
    "julian": "2460000.5",
    "empty": "''",
    "word": "'abc'",
    "spaces": "'  a '",
    "digits": "'12'",
    "exponent": "'1e5'",
    "hex": "'0x1F'",
    "text_t": "'t'",
    "text_true": "'true'",
    "text_yes": "'yes'",
    "text_nan": "'NaN'",
    "text_infinity": "'infinity'",
    "text_now": "'now'",
    "text_null": "'NULL'",
    "escapes": "'a\\b' || char(9) || char(10) || char(13) || char(8) || ''''",
    "copy_null": "'\\N'",
    "copy_end": "'\\.'",
    "unicode": "'Ünï 😀 ' || char(0xFFFE)",
    "controls": "char(1) || char(127) || char(0x85)",
    "nul": "'a' || char(0) || 'b'",
    "broken_utf8": "CAST(x'61ff62' AS TEXT)",
    "surrogate": "CAST(x'eda080' AS TEXT)",
    "overlong": "CAST(x'c080' AS TEXT)",
    "long_text": "printf('%.*c', 100000, 'x')",
    "eleven": "'12345678901'",
    "blob": "x'00ff5c4e0a'",
    "blob_empty": "x''",
    "blob_text": "CAST('abc' AS BLOB)",
    "blob_16": "x'0123456789abcdef0123456789abcdef'",
    "date": "'2024-02-29'",
    "date_none": "'2023-02-29'",
    "date_zero": "'0000-00-00'",
    "date_year_0": "'0000-01-01'",
    "date_us": "'02/29/2024'",
    "date_short": "'2024-2-9'",
    "date_year_10000": "'10000-01-01'",
    "date_bc": "'-0044-03-15'",
    "stamp": "'2024-02-29 13:14:15'",
    "stamp_midnight": "'2024-02-29 00:00:00'",
    "stamp_t": "'2024-02-29T13:14:15'",
    "stamp_minutes": "'2024-02-29 13:14'",
    "stamp_us": "'2024-02-29 13:14:15.123456'",
    "stamp_ms": "'2024-02-29 13:14:15.1'",
    "stamp_ns": "'2024-02-29 13:14:15.123456789'",
    "stamp_zeros": "'2024-02-29 13:14:15.123000000'",
    "stamp_z": "'2024-02-29T13:14:15Z'",
    "stamp_offset": "'2024-02-29 13:14:15.5+05:30'",
    "stamp_24": "'2024-02-29 24:00:00'",
    "stamp_leap": "'2016-12-31 23:59:60'",
    "stamp_old": "'0001-01-01 00:00:00.000001'",
    "stamp_last": "'9999-12-31 23:59:59.999999'",
    "time": "'13:14:15'",
    "time_us": "'13:14:15.000001'",
    "time_short": "'13:14'",
    "time_24": "'24:00:00'",
    "time_12": "'1:14 pm'",
    "json": """'{"b": 1, "a": [null, 1.50, "\\u00e9"], "b": 2}'""",
    "json_number": "'1.0'",
    "json_nul": """'{"a": "\\u0000"}'""",
    "json_nan": "'[NaN]'",
    "json_5": """'{a: 1}'""",
    "json_bare": """'"text"'""",
    "json_deep": "printf('%.*c', 500, '[') || printf('%.*c', 500, ']')",
    "uuid": "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
    "uuid_hex": "'6ba7b8109dad11d180b400c04fd430c8'",
    "money": "'$1,234.50'",
    "decimal_long": "'123456789012345678901234567890.123456789'",
}
# Columns without a known type are bytea as soon as one value is a blob; see STRUCTURES for that.
BLOBS = {"blob", "blob_empty", "blob_text", "blob_16"}
UNTYPED = ("", "ODD TYPE")


def words(text: str) -> set[str]:
    return set(text.split())


def all_but(text: str) -> set[str]:
    return set(VALUES) - words(text)


# Declared type: the values that are kept; all others are listed.
KEPT = {
    "INTEGER": words(
        "null zero one two minus int4_over int8_max int8_min odd_over_double epoch "
        "epoch_ms digits exponent eleven json_number"
    ),
    "BOOLEAN": words("null zero one json_number"),
    "REAL": words(
        "null zero one two minus int4_over int8_max int8_min int8_over odd_over_double "
        "half third sum_of_tenths huge tiny infinity minus_infinity epoch epoch_ms julian "
        "digits exponent eleven json_number decimal_long"
    ),
    "NUMERIC": words(
        "null zero one two minus int4_over int8_max int8_min int8_over odd_over_double "
        "half third sum_of_tenths huge tiny epoch epoch_ms julian digits exponent eleven "
        "json_number decimal_long"
    ),
    "DECIMAL(10, 2)": words(
        "null zero one two minus half sum_of_tenths julian digits exponent json_number"
    ),
    "TEXT": all_but("nul broken_utf8 surrogate overlong blob blob_empty blob_text blob_16"),
    "VARCHAR(10)": all_but(
        "int8_max int8_min int8_over odd_over_double third huge tiny epoch_ms nul "
        "broken_utf8 surrogate overlong long_text eleven blob blob_empty blob_text "
        "blob_16 date_year_10000 date_bc stamp stamp_midnight stamp_t stamp_minutes "
        "stamp_us stamp_ms stamp_ns stamp_zeros stamp_z stamp_offset stamp_24 stamp_leap "
        "stamp_old stamp_last time_us json json_nul json_deep uuid uuid_hex decimal_long"
    ),
    "CHAR(36)": all_but(
        "nul broken_utf8 surrogate overlong long_text blob blob_empty blob_text blob_16 "
        "json json_deep decimal_long"
    ),
    "BLOB": words("null blob blob_empty blob_text blob_16"),
    "DATE": words("null date"),
    "DATETIME": words(
        "null date stamp stamp_midnight stamp_t stamp_minutes stamp_us stamp_ms "
        "stamp_zeros stamp_old stamp_last"
    ),
    "TIMESTAMP WITH TIME ZONE": words("null stamp_z stamp_offset"),
    "TIME": words("null time time_us time_short"),
    "JSON": words(
        "null zero one two minus int4_over int8_max int8_min int8_over odd_over_double "
        "half third sum_of_tenths huge tiny epoch epoch_ms julian digits exponent "
        "text_true eleven json json_number json_nul json_bare json_deep decimal_long"
    ),
    "UUID": all_but(
        "zero one two minus int4_over int8_max int8_min int8_over odd_over_double half "
        "third sum_of_tenths huge tiny infinity minus_infinity epoch epoch_ms julian "
        "digits exponent nul broken_utf8 surrogate overlong long_text eleven blob "
        "blob_empty blob_text blob_16 json json_number json_deep decimal_long"
    ),
    "": all_but("nul broken_utf8 surrogate overlong"),
    "ODD TYPE": all_but("nul broken_utf8 surrogate overlong"),
}


@dataclass
class Structure:
    """`{t}` is the case's own table. In PostgreSQL, `holds` are queries and their answer,
    `refuses` and `accepts` are statements, and `left` is what must be named as not carried."""

    name: str
    sql: str
    holds: list[tuple[str, Any]] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    accepts: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def filled(self, text: str) -> str:
        return text.replace("{t}", self.name)


def default(name: str, declared: str, expression: str, expected: str) -> Structure:
    return Structure(
        f"default_{name}",
        f"CREATE TABLE {{t}} (k INTEGER PRIMARY KEY, c {declared} DEFAULT {expression})",
        accepts=["INSERT INTO {t} DEFAULT VALUES"],
        holds=[("SELECT c::text FROM {t}", expected)],
    )


def lost_default(name: str, declared: str, expression: str) -> Structure:
    return Structure(
        f"default_lost_{name}",
        f"CREATE TABLE {{t}} (k INTEGER, c {declared} DEFAULT {expression})",
        left=["default"],
    )


def check(name: str, expression: str, good: str, bad: str) -> Structure:
    return Structure(
        f"check_{name}",
        f"CREATE TABLE {{t}} (n INTEGER, s TEXT, b BOOLEAN, r REAL, CHECK ({expression}))",
        accepts=[f"INSERT INTO {{t}} {good}"],
        refuses=[f"INSERT INTO {{t}} {bad}"],
    )


def lost_check(name: str, expression: str) -> Structure:
    return Structure(
        f"check_lost_{name}",
        f"CREATE TABLE {{t}} (n INTEGER, s TEXT, d DATETIME, f TEXT COLLATE NOCASE, "
        f"CHECK ({expression}))",
        left=["check", "collation"],
    )


def index(name: str, terms: str, definition: str, unique: str = "") -> Structure:
    return Structure(
        f"index_{name}",
        "CREATE TABLE {t} (a INTEGER, b TEXT, c TEXT COLLATE NOCASE, d REAL);"
        f"CREATE {unique} INDEX ix_{{t}} ON {{t}} {terms}",
        holds=[("SELECT indexdef LIKE $$%" + definition + "%$$ FROM pg_indexes "
                "WHERE indexname = 'ix_{t}'", True)],
        left=["collation"],
    )  # fmt: skip


def name_case(name: str, table: str, column: str) -> Structure:
    """A table and a column with odd names."""
    quoted_table, quoted_column = (x.replace('"', '""') for x in (table, column))
    query = f'SELECT "{quoted_column}" FROM "{quoted_table}"'
    return Structure(
        f"name_{name}",
        f'CREATE TABLE "{quoted_table}" ("{quoted_column}" INTEGER PRIMARY KEY);'
        f'INSERT INTO "{quoted_table}" VALUES (5)',
        holds=[(query, 5)],
        accepts=[f'INSERT INTO "{quoted_table}" DEFAULT VALUES'],
    )


STRUCTURES = [
    default("integer", "INTEGER", "-5", "-5"),
    default("plus", "INTEGER", "+5", "5"),
    default("quoted_integer", "INTEGER", "'7'", "7"),
    default("real", "REAL", "1.5", "1.5"),
    default("integer_real", "REAL", "2", "2"),
    default("text", "TEXT", "'it''s'", "it's"),
    default("text_number", "TEXT", "0", "0"),
    default("double_quoted", "TEXT", '"word"', "word"),
    default("backslash", "TEXT", "'a\\b'", "a\\b"),
    default("empty", "TEXT", "''", ""),
    default("null", "TEXT", "NULL", None),
    default("true", "BOOLEAN", "1", "true"),
    default("false", "BOOLEAN", "FALSE", "false"),
    default("blob", "BLOB", "x'00ff'", "\\x00ff"),
    default("json", "JSON", "'{\"a\": []}'", '{"a": []}'),
    default("numeric", "NUMERIC(6,2)", "12.5", "12.50"),
    default("date", "DATE", "'2024-02-29'", "2024-02-29"),
    default("stamp", "DATETIME", "'2024-02-29 01:02:03'", "2024-02-29 01:02:03"),
    default("brackets", "INTEGER", "((5))", "5"),
    Structure(
        "default_now",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, a DATETIME DEFAULT CURRENT_TIMESTAMP, "
        "b DATE DEFAULT CURRENT_DATE, c TIME DEFAULT CURRENT_TIME, d TEXT DEFAULT "
        "CURRENT_TIMESTAMP, e DATETIME DEFAULT (datetime('now')), f INTEGER DEFAULT "
        "(strftime('%s', 'now')), g INTEGER DEFAULT (unixepoch()))",
        accepts=["INSERT INTO {t} DEFAULT VALUES"],
        holds=[
            (
                "SELECT abs(extract(epoch FROM a AT TIME ZONE 'UTC' - now())) < 60 AND "
                "b = (now() AT TIME ZONE 'UTC')::date AND c IS NOT NULL AND length(d) = 19 AND "
                "e = a AND abs(f - extract(epoch FROM now())) < 60 AND f = g FROM {t}",
                True,
            )
        ],
    ),
    lost_default("random", "INTEGER", "(random())"),
    lost_default("lower", "TEXT", "(lower('A'))"),
    lost_default("now", "DATETIME", "'now'"),
    lost_default("wrong", "INTEGER", "'many'"),
    lost_default("hex", "TEXT", "(hex(randomblob(4)))"),
    lost_default("localtime", "DATETIME", "(datetime('now', 'localtime'))"),
    check("greater", "n > 0", "(n) VALUES (1)", "(n) VALUES (0)"),
    check("between", "n BETWEEN 1 AND 5", "(n) VALUES (5)", "(n) VALUES (6)"),
    check("in", "s IN ('a', 'b')", "(s) VALUES ('b')", "(s) VALUES ('c')"),
    check("length", "length(s) >= 2", "(s) VALUES ('ab')", "(s) VALUES ('a')"),
    check("not_empty", "s <> ''", "(s) VALUES ('a')", "(s) VALUES ('')"),
    check("or_null", "n > 5 OR s IS NOT NULL", "(s) VALUES ('a')", "(n) VALUES (1)"),
    check("boolean", "b = 1", "(b) VALUES (true)", "(b) VALUES (false)"),
    check("real", "r * 2 < 10.5", "(r) VALUES (5)", "(r) VALUES (6)"),
    check("columns", "n < r", "(n, r) VALUES (1, 2)", "(n, r) VALUES (2, 1)"),
    check("coalesce", "coalesce(n, 0) = 0", "(n) VALUES (NULL)", "(n) VALUES (1)"),
    lost_check("like", "s LIKE 'a%'"),
    lost_check("glob", "s GLOB 'a*'"),
    lost_check("typeof", "typeof(n) = 'integer'"),
    lost_check("order_of_texts", "s < 'b'"),
    lost_check("bits", "n & 1"),
    lost_check("date", "d > '2020-01-01'"),
    lost_check("nocase", "f = 'a'"),
    lost_check("division", "n / 2 = 1"),
    index("plain", "(a)", "USING btree (a)"),
    index("descending", "(a DESC, b)", "(a DESC, b)"),
    index("unique", "(a, b)", "UNIQUE INDEX%(a, b)", "UNIQUE"),
    index("partial", "(a) WHERE b IS NOT NULL", "WHERE (b IS NOT NULL)"),
    index("where_value", "(a) WHERE b = 'x'", "WHERE (b = 'x'::text)"),
    index("expression", "(a * 2)", "((a * 2))"),
    index("lower", "(lower(b))", "(lower(b))"),
    index("nocase", "(c)", "translate(c, %"),
    index("collate", "(b COLLATE NOCASE)", "translate(b, %"),
    Structure(
        "index_lost",
        "CREATE TABLE {t} (j TEXT); CREATE INDEX ix_{t} ON {t} (json_extract(j, '$.a'))",
        left=["index"],
    ),
    Structure(
        "unique_nocase",
        "CREATE TABLE {t} (c TEXT COLLATE NOCASE UNIQUE); INSERT INTO {t} VALUES ('Ab'), ('Ä')",
        accepts=["INSERT INTO {t} VALUES ('ä')"],
        refuses=["INSERT INTO {t} VALUES ('aB')", "INSERT INTO {t} VALUES ('Ä')"],
        left=["collation"],
    ),
    Structure(
        "unique_null",
        "CREATE TABLE {t} (c TEXT UNIQUE); INSERT INTO {t} VALUES (NULL), (NULL), ('a')",
        refuses=["INSERT INTO {t} VALUES ('a')"],
        holds=[("SELECT count(*) FROM {t}", 3)],
    ),
    Structure(
        "not_null",
        "CREATE TABLE {t} (c TEXT NOT NULL)",
        refuses=["INSERT INTO {t} VALUES (NULL)"],
    ),
    Structure(
        "autoincrement_ahead",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY AUTOINCREMENT);"
        "INSERT INTO {t} VALUES (90); DELETE FROM {t}",
        accepts=["INSERT INTO {t} DEFAULT VALUES"],
        holds=[("SELECT k FROM {t}", 91)],
    ),
    Structure(
        "autoincrement_never_used",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY AUTOINCREMENT)",
        accepts=["INSERT INTO {t} DEFAULT VALUES"],
        holds=[("SELECT k FROM {t}", 1)],
    ),
    Structure(
        "rowid_alias_negative",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, c TEXT); INSERT INTO {t} (k) VALUES (-7)",
        accepts=["INSERT INTO {t} (c) VALUES ('new')"],
        holds=[("SELECT max(k) FROM {t}", 1)],
    ),
    Structure(
        "rowid_alias_gap",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, c TEXT);"
        "INSERT INTO {t} (k) VALUES (5), (4611686018427387904)",
        accepts=["INSERT INTO {t} (c) VALUES ('new')"],
        holds=[("SELECT max(k) FROM {t}", 2**62 + 1)],
    ),
    Structure(
        "without_rowid",
        "CREATE TABLE {t} (a TEXT, b INTEGER, PRIMARY KEY (b DESC, a)) WITHOUT ROWID;"
        "INSERT INTO {t} VALUES ('x', 2), ('', 1)",
        holds=[("SELECT string_agg(a || b, ',' ORDER BY b) FROM {t}", "1,x2")],
        refuses=["INSERT INTO {t} VALUES ('x', 2)"],
    ),
    Structure(
        "strict",
        "CREATE TABLE {t} (a INT, b ANY, c TEXT, d REAL, e BLOB) STRICT;"
        "INSERT INTO {t} VALUES (1, 'x', 'y', 0.5, x'00'), (2, 5, NULL, NULL, NULL)",
        holds=[("SELECT string_agg(b, ',' ORDER BY a) FROM {t}", "x,5")],
    ),
    Structure(
        "no_key",
        "CREATE TABLE {t} (a TEXT); INSERT INTO {t} VALUES ('x'), ('x'), (NULL), (NULL)",
        holds=[("SELECT count(*) FILTER (WHERE a = 'x') * 10 + count(*) FROM {t}", 24)],
    ),
    Structure(
        "composite_key",
        "CREATE TABLE {t} (a INTEGER, b INTEGER, PRIMARY KEY (b, a));"
        "INSERT INTO {t} VALUES (1, 2), (2, 1)",
        refuses=["INSERT INTO {t} VALUES (1, 2)"],
        holds=[("SELECT sum(a * 10 + b) FROM {t}", 33)],
    ),
    Structure(
        "text_key",
        "CREATE TABLE {t} (k VARCHAR(5) PRIMARY KEY); INSERT INTO {t} VALUES (''), ('a')",
        refuses=["INSERT INTO {t} VALUES ('')"],
    ),
    Structure(
        "key_named",
        "CREATE TABLE {t} (k INTEGER, CONSTRAINT odd_pk PRIMARY KEY (k))",
        holds=[("SELECT contype::text FROM pg_constraint WHERE conname = 'odd_pk'", "p")],
    ),
    Structure(
        "cycle",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, o INTEGER REFERENCES {t}_other (k));"
        "CREATE TABLE {t}_other (k INTEGER PRIMARY KEY, o INTEGER REFERENCES {t} (k));"
        "INSERT INTO {t}_other VALUES (1, 1); INSERT INTO {t} VALUES (1, 1)",
        refuses=["INSERT INTO {t} VALUES (2, 2)", "INSERT INTO {t}_other VALUES (2, 2)"],
    ),
    Structure(
        "self_reference",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, o INTEGER REFERENCES {t});"
        "INSERT INTO {t} VALUES (1, 2), (2, 1)",
        refuses=["DELETE FROM {t} WHERE k = 1"],
    ),
    Structure(
        "cascade",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY);"
        "CREATE TABLE {t}_child (k INTEGER REFERENCES {t} ON DELETE CASCADE ON UPDATE SET NULL);"
        "INSERT INTO {t} VALUES (1), (2); INSERT INTO {t}_child VALUES (1), (2)",
        accepts=["DELETE FROM {t} WHERE k = 1", "UPDATE {t} SET k = 9 WHERE k = 2"],
        holds=[("SELECT count(*) * 10 + count(k) FROM {t}_child", 10)],
    ),
    Structure(
        "deferred",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY);"
        "CREATE TABLE {t}_child (k INTEGER REFERENCES {t} DEFERRABLE INITIALLY DEFERRED)",
        accepts=["BEGIN; INSERT INTO {t}_child VALUES (1); INSERT INTO {t} VALUES (1); COMMIT"],
        refuses=["INSERT INTO {t}_child VALUES (7)"],
    ),
    Structure(
        "key_to_unique",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a, b));"
        "CREATE TABLE {t}_child (x TEXT, y TEXT, FOREIGN KEY (x, y) REFERENCES {t} (a, b))",
        refuses=["INSERT INTO {t}_child VALUES ('a', 'b')"],
        accepts=["INSERT INTO {t}_child VALUES ('a', NULL)"],
    ),
    Structure(
        "key_to_nothing",
        "CREATE TABLE {t} (a INTEGER REFERENCES not_there (k))",
        left=["foreign key"],
    ),
    Structure(
        "key_to_no_key",
        "CREATE TABLE {t} (k INTEGER); CREATE TABLE {t}_child (k INTEGER REFERENCES {t} (k))",
        left=["foreign key"],
    ),
    Structure(
        "key_of_another_type",
        "CREATE TABLE {t} (k INTEGER PRIMARY KEY); CREATE TABLE {t}_child (k TEXT REFERENCES {t})",
        left=["foreign key"],
    ),
    Structure(
        "generated_numbers",
        "CREATE TABLE {t} (a INTEGER, r REAL, g INTEGER AS (a * 2 + 1) STORED, h REAL AS (r - 1));"
        "INSERT INTO {t} VALUES (20, 0.1)",
        accepts=["UPDATE {t} SET a = a + 1"],
        holds=[("SELECT g FROM {t}", 43), ("SELECT h FROM {t}", -0.9)],
        refuses=["INSERT INTO {t} (g) VALUES (1)"],
    ),
    Structure(
        "generated_infinite",
        "CREATE TABLE {t} (r REAL, g REAL AS (r - r), h REAL AS (r * 2));"
        "INSERT INTO {t} VALUES (9e999), (1.5), (NULL), (-0.0)",
        holds=[("SELECT count(g) * 10 + count(h) FROM {t}", 23)],
    ),
    Structure(
        "generated_text",
        "CREATE TABLE {t} (a TEXT, n INTEGER, g TEXT GENERATED ALWAYS AS (a || '-' || n) VIRTUAL);"
        "INSERT INTO {t} VALUES ('x', -5), (NULL, 1)",
        holds=[("SELECT g FROM {t} WHERE a = 'x'", "x--5")],
    ),
    Structure(
        "generated_plain",
        "CREATE TABLE {t} (a INTEGER, s TEXT, g INTEGER AS (a / 2), h TEXT AS (upper(s)));"
        "INSERT INTO {t} VALUES (-5, 'straße')",
        holds=[("SELECT g FROM {t}", -2), ("SELECT h FROM {t}", "STRAßE")],
        left=["generated column", "generated column"],
    ),
    Structure(
        "json_check",
        "CREATE TABLE {t} (a TEXT CHECK (json_valid(a))); INSERT INTO {t} VALUES ('{\"b\": 1 }')",
        holds=[("SELECT a::text FROM {t}", '{"b": 1 }')],
        refuses=["INSERT INTO {t} VALUES ('{')"],
    ),
    Structure(
        "boolean_check",
        "CREATE TABLE {t} (a BOOLEAN CHECK (a IN (0, 1))); INSERT INTO {t} VALUES (1)",
        holds=[("SELECT a FROM {t}", True)],
    ),
    Structure(
        "view", "CREATE TABLE {t} (a); CREATE VIEW {t}_v AS SELECT a FROM {t}", left=["view"]
    ),
    Structure(
        "trigger",
        "CREATE TABLE {t} (a); CREATE TRIGGER {t}_r AFTER INSERT ON {t} BEGIN SELECT 1; END",
        left=["trigger"],
    ),
    Structure(
        "virtual",
        "CREATE VIRTUAL TABLE {t} USING fts5(a)",
        left=["virtual table", *["shadow table"] * 5],
    ),
    Structure(
        "conflict_clause",
        "CREATE TABLE {t} (a INTEGER UNIQUE ON CONFLICT REPLACE)",
        left=["conflict clause"],
    ),
    Structure(
        "rtrim",
        "CREATE TABLE {t} (a TEXT COLLATE RTRIM UNIQUE); INSERT INTO {t} VALUES ('a ')",
        refuses=["INSERT INTO {t} VALUES ('a')"],
        holds=[("SELECT a FROM {t}", "a ")],
        left=["collation"],
    ),
    Structure(
        "epoch",
        "CREATE TABLE {t} (a DATETIME); INSERT INTO {t} VALUES (1700000000), (1700000001)",
        holds=[("SELECT sum(a) FROM {t}", 3400000001)],
    ),
    Structure(
        "epoch_real",
        "CREATE TABLE {t} (a TIMESTAMP); INSERT INTO {t} VALUES (1700000000.25)",
        holds=[("SELECT a FROM {t}", 1700000000.25)],
    ),
    Structure(
        "offsets_everywhere",
        "CREATE TABLE {t} (a DATETIME); INSERT INTO {t} VALUES ('2024-01-01 00:00:00-03:30')",
        holds=[("SELECT (a AT TIME ZONE 'UTC')::text FROM {t}", "2024-01-01 03:30:00")],
    ),
    Structure(
        "untyped_numbers",
        "CREATE TABLE {t} (a, b); INSERT INTO {t} VALUES (1, 0.5), (NULL, -0.0)",
        holds=[("SELECT a FROM {t} WHERE a IS NOT NULL", 1)],
    ),
    Structure(
        "untyped_blobs",
        "CREATE TABLE {t} (a); INSERT INTO {t} VALUES (x'00ff'), (NULL)",
        holds=[("SELECT encode(a, 'hex') FROM {t} WHERE a IS NOT NULL", "00ff")],
    ),
    Structure(
        "texts_in_blob",
        "CREATE TABLE {t} (a BLOB); INSERT INTO {t} VALUES ('x'), (5)",
        holds=[("SELECT string_agg(a, ',' ORDER BY a) FROM {t}", "5,x")],
    ),
    Structure(
        "large_blob",
        "CREATE TABLE {t} (a BLOB); INSERT INTO {t} VALUES (zeroblob(3000000))",
        holds=[("SELECT length(a) FROM {t}", 3000000)],
    ),
    Structure(
        "large_text",
        "CREATE TABLE {t} (a TEXT); INSERT INTO {t} VALUES (printf('%.*c', 3000000, 'ü'))",
        holds=[("SELECT length(a) FROM {t}", 3000000)],
    ),
    Structure(
        "wide",
        f"CREATE TABLE {{t}} ({', '.join(f'c{i} INTEGER' for i in range(1600))});"
        "INSERT INTO {t} (c1599) VALUES (7)",
        holds=[("SELECT c1599 FROM {t}", 7)],
    ),
    Structure("empty_table", "CREATE TABLE {t} (a TEXT)", holds=[("SELECT count(*) FROM {t}", 0)]),
    Structure(
        "comments",
        "CREATE TABLE {t} ( -- a, comment (with ' and\n a /* b, */ INTEGER CHECK (a > 0) )",
        refuses=["INSERT INTO {t} VALUES (0)"],
    ),
    Structure(
        "rowid_hidden",
        "CREATE TABLE {t} (rowid TEXT, oid TEXT); INSERT INTO {t} VALUES ('a', 'b')",
        holds=[("SELECT rowid || oid FROM {t}", "ab")],
    ),
    Structure(
        "int_size",
        "CREATE TABLE {t} (a INT(11), b TINYINT, c SMALLINT UNSIGNED);"
        "INSERT INTO {t} VALUES (3000000000, 300, 70000)",
        holds=[("SELECT a + b + c FROM {t}", 3000070300)],
    ),
    name_case("quotes", 'a"b', 'c"d'),
    name_case("apostrophe", "a'b", "c'd"),
    name_case("spaces", " a  b ", " c "),
    name_case("keyword", "select", "order"),
    name_case("capitals", "MixedCase", "UserId"),
    name_case("unicode", "tàblé 😀", "kölumn"),
    name_case("percent", "100% %s", "%(x)s"),
    name_case("backslash", "a\\b", "\\N"),
    name_case("dot", "public.t", "t.c"),
    name_case("brackets", "a[1]", "{q}"),
    name_case("line", "a\nb", "c\td"),
    name_case("dollar", "$1", "$$"),
    name_case("digits", "123", "456"),
    name_case("dashes", "--", "/*"),
    name_case("bytes_63", "t" * 63, "c" * 63),
    Structure(
        "name_column_over_63",
        f"CREATE TABLE {{t}} ({'x' * 64} INTEGER, {'x' * 65} INTEGER);"
        "INSERT INTO {t} VALUES (1, 2)",
        holds=[
            (
                "SELECT count(*) FROM pg_attribute WHERE attrelid = '{t}'::regclass "
                "AND attnum > 0 AND attname LIKE 'xxx%'",
                2,
            )
        ],
    ),  # fmt: skip
    Structure(
        "name_system_column",
        "CREATE TABLE {t} (ctid TEXT, xmin TEXT); INSERT INTO {t} VALUES ('a', 'b')",
        holds=[("SELECT ctid_ || xmin_ FROM {t}", "ab")],
    ),
    Structure(
        "name_empty",
        "CREATE TABLE {t} (\"\" TEXT); INSERT INTO {t} VALUES ('a')",
        holds=[("SELECT unnamed FROM {t}", "a")],
    ),
    Structure(
        "name_of_index_twice",
        "CREATE TABLE {t} (a INTEGER); CREATE TABLE {t}_a_idx (a INTEGER);"
        "CREATE INDEX default_null_pkey ON {t} (a)",
        holds=[("SELECT count(*) FROM pg_indexes WHERE tablename = '{t}'", 1)],
    ),
]
