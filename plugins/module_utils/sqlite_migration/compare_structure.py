# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, constraints, defaults, indexes, sequences: SQLite's pragmas against the catalog.

What the migration named as not carried over is listed, and is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import target as pg
from .compare_rows import Findings, Pair, pg_quote, source_columns
from .expressions import is_json_check
from .source import SourceDatabase, quote_sqlite
from .sqltext import parse_create_table

_CONSTRAINTS = """
SELECT c.conname, c.contype, c.convalidated, c.confupdtype, c.confdeltype,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n
             ORDER BY k.i),
       f.relname,
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n
             ORDER BY k.i)
FROM pg_catalog.pg_constraint c
LEFT JOIN pg_catalog.pg_class f ON f.oid = c.confrelid
WHERE c.conrelid = %s::pg_catalog.regclass
"""
_INDEXES = """
SELECT c.relname, i.indisunique, i.indisvalid AND i.indisready, i.indpred IS NOT NULL,
       ARRAY(SELECT coalesce((SELECT a.attname::text FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
                                AND i.indkey[k] > 0), '')
             FROM generate_series(0, i.indnkeyatts - 1) AS k),
       ARRAY(SELECT (i.indoption[k] & 1) = 1 FROM generate_series(0, i.indnkeyatts - 1) AS k)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::pg_catalog.regclass
"""
_COLUMNS = """
SELECT attname, attnotnull, atthasdef OR attidentity <> '' FROM pg_catalog.pg_attribute
WHERE attrelid = %s::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped
"""
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass
class Structure:
    """`unexplained` is what can't be judged, as the record doesn't say what was left out."""

    left_out: list[dict[str, Any]] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)


class _Table:
    def __init__(
        self,
        connection: Any,
        source: SourceDatabase,
        pair: Pair,
        names: dict[str, str],
        not_carried: list[dict[str, Any]] | None,
        own_schema: bool,
        findings: Findings,
        structure: Structure,
    ) -> None:
        self.connection = connection
        self.source = source
        self.pair = pair
        self.names = names
        self.not_carried = not_carried
        self.own_schema = own_schema
        self.findings = findings
        self.structure = structure
        self.columns = {made.name.lower(): made.target for made in pair.fields}
        self.constraints = pg.fetch(connection, _CONSTRAINTS, (pair.full_name,))
        self.indexes = pg.fetch(connection, _INDEXES, (pair.full_name,))

    def lacks(self, kind: str, name: str, words: list[str], source: Any = "present") -> None:
        """Something of the source that the target hasn't got."""
        if self.not_carried is not None:
            for item in self.not_carried:
                if item.get("kind") == kind and all(
                    word.lower() in str(item.get("name", "")).lower() for word in words
                ):
                    self.structure.left_out.append({**item, "table": self.pair.name})
                    return
        if self.own_schema or self.not_carried is None and kind != "primary key":
            self.structure.unexplained.append(f"{self.pair.name}: {kind} {name}")
            return
        self.findings.add(self.pair.name, f"{kind} {name}", source, "missing", kind="structure")

    def count(self, kind: str) -> None:
        self.structure.checked[kind] = self.structure.checked.get(kind, 0) + 1

    def targets(self, columns: list[str]) -> list[str] | None:
        found = [self.columns.get(column.lower(), "") for column in columns]
        return found if all(found) else None

    def compare(self) -> None:
        self.valid()
        info = source_columns(self.source, self.pair.name)
        self.key(info)
        self.not_null_and_defaults(info)
        self.unique_and_indexes()
        self.foreign_keys()
        self.checks()

    def valid(self) -> None:
        for name, kind, validated, *_rest in self.constraints:
            self.count("constraints validated")
            if not validated:
                what = "foreign key" if kind == "f" else "constraint"
                self.findings.add(
                    self.pair.name, f"{what} {name}", "valid", "not validated", kind="structure"
                )
        for name, _unique, valid, *_rest in self.indexes:
            self.count("indexes valid")
            if not valid:
                self.findings.add(
                    self.pair.name, f"index {name}", "valid", "not valid", kind="structure"
                )

    def key(self, info: list[tuple[Any, ...]]) -> None:
        key = [str(r[1]) for r in sorted((r for r in info if r[5]), key=lambda r: int(r[5]))]
        if not key:
            return
        self.count("primary keys")
        found = [c[5] for c in self.constraints if c[1] == "p"]
        if self.targets(key) not in found:
            self.lacks("primary key", f"({', '.join(key)})", [self.pair.name])

    def not_null_and_defaults(self, info: list[tuple[Any, ...]]) -> None:
        found = {n: (must, has) for n, must, has in self._target_columns()}
        for _cid, name, _type, not_null, default, key, hidden in info:
            must, has = found.get(self.columns.get(str(name).lower(), ""), (None, None))
            if must is None:
                continue
            if not_null or key:
                self.count("NOT NULL")
                if not must:
                    self.lacks("not null", str(name), [self.pair.name, str(name)])
            if default is not None and str(default).upper() != "NULL" and not hidden:
                self.count("defaults")
                if not has:
                    words = [f"{self.pair.name}.{name}"]
                    self.lacks("default", f"of {name}", words)

    def _target_columns(self) -> list[tuple[Any, ...]]:
        return pg.fetch(self.connection, _COLUMNS, (self.pair.full_name,))

    def unique_and_indexes(self) -> None:
        listed = self.source.query(f"PRAGMA index_list({quote_sqlite(self.pair.name)})")
        for _seq, name, unique, origin, partial in listed:
            if origin == "pk":
                continue
            terms = [
                row
                for row in self.source.query(f"PRAGMA index_xinfo({quote_sqlite(name)})")
                if row[5]
            ]
            columns = [str(row[2]) if row[1] >= 0 else "" for row in terms]
            kind = "unique constraint" if origin == "u" else "index"
            self.count("unique constraints" if origin == "u" else "indexes")
            if not self._has_index(str(name), columns, bool(unique), bool(partial), terms):
                shown = f"({', '.join(columns)})" if origin == "u" else str(name)
                self.lacks(kind, shown, [str(name)] if origin != "u" else [self.pair.name])

    def _has_index(
        self,
        name: str,
        columns: list[str],
        unique: bool,
        partial: bool,
        terms: list[tuple[Any, ...]],
    ) -> bool:
        wanted = [self.columns.get(c.lower(), "") if c else "" for c in columns]
        down = [bool(row[3]) for row in terms]
        if any(row[4] != "BINARY" for row in terms):
            # A term that ignores case is an expression there.
            wanted = [""] * len(wanted) if any(i[0] == name for i in self.indexes) else wanted
        for found, is_unique, _valid, is_partial, has, order in self.indexes:
            if (unique and not is_unique) or is_partial != partial or len(has) != len(wanted):
                continue
            if "" in wanted and found != name:
                # Expressions are in the index of the same name, or can't be told.
                continue
            if "" not in wanted and (has != wanted or partial and found != name):
                continue
            if unique or order == down:
                return True
        return False

    def foreign_keys(self) -> None:
        keys: dict[int, list[tuple[Any, ...]]] = {}
        listed = f"PRAGMA foreign_key_list({quote_sqlite(self.pair.name)})"
        for row in self.source.query(listed):
            keys.setdefault(int(row[0]), []).append(row)
        for rows in keys.values():
            columns = [str(row[3]) for row in rows]
            parent = str(rows[0][2])
            label = f"({', '.join(columns)}) to {parent}"
            self.count("foreign keys")
            wanted = self.targets(columns)
            target_parent = self.names.get(parent.lower(), parent)
            matching = [
                c
                for c in self.constraints
                if c[1] == "f" and c[5] == wanted and c[6] == target_parent
            ]
            if not matching:
                name = f"{self.pair.name}({', '.join(columns)})"
                self.lacks("foreign key", label, [name])
                continue
            actions = (_ACTIONS[matching[0][3]], _ACTIONS[matching[0][4]])
            own = (str(rows[0][5]).upper(), str(rows[0][6]).upper())
            if actions != own and not self.own_schema:
                self.findings.add(
                    self.pair.name,
                    f"actions of foreign key {label}",
                    " ".join(own),
                    " ".join(actions),
                    kind="structure",
                )

    def checks(self) -> None:
        rows = self.source.query(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (self.pair.name,)
        )
        checks = parse_create_table(str(rows[0][0])).checks
        there = [c for c in self.constraints if c[1] == "c"]
        # One column IN (0, 1): what a boolean is by itself. json_valid(): what json is.
        implied = [
            check
            for check in checks
            if len(check.tokens) == 7
            and check.tokens[1].is_word("IN")
            and self._is_boolean(check.tokens[0].text.strip('"`[]'))
            or self._is_json(is_json_check(check.tokens))
        ]
        mine = self.pair.name.lower()
        left = [
            item
            for item in self.not_carried or []
            if item.get("kind") == "check"
            and (
                str(item.get("reason", "")).lower().startswith(f"on {mine}:")
                or str(item.get("name", "")).lower().startswith(f"{mine}:")
                or any(item.get("name") == check.name for check in checks if check.name)
            )
        ]
        self.structure.checked["checks"] = self.structure.checked.get("checks", 0) + len(checks)
        self.structure.left_out += [{**item, "table": self.pair.name} for item in left]
        expected = len(checks) - len(implied) - len(left)
        if len(there) < expected:
            if self.not_carried is None or self.own_schema:
                text = f"{self.pair.name}: {expected - len(there)} checks"
                self.structure.unexplained.append(text)
                return
            self.findings.add(
                self.pair.name, "check constraints", expected, len(there), kind="structure"
            )

    def _is_json(self, name: str | None) -> bool:
        return name is not None and any(
            f.name.lower() == name.lower() and f.type in ("json", "jsonb") for f in self.pair.fields
        )

    def _is_boolean(self, name: str) -> bool:
        return any(f.name.lower() == name.lower() and f.type == "bool" for f in self.pair.fields)


def compare_structure(
    connection: Any,
    source: SourceDatabase,
    pairs: list[Pair],
    names: dict[str, str],
    not_carried: list[dict[str, Any]] | None,
    own_schema: bool,
    findings: Findings,
) -> Structure:
    """`own_schema`: the target's tables were made by the application's own migrations.

    `names`: the target's names of all tables that were migrated, compared now or not.
    """
    structure = Structure()
    names = {name.lower(): target for name, target in names.items()}
    names |= {pair.name.lower(): pair.target for pair in pairs}
    for pair in pairs:
        _Table(
            connection, source, pair, names, not_carried, own_schema, findings, structure
        ).compare()
    return structure


def next_number(connection: Any, pair: Pair, column: str) -> int | None:
    """What the column's own sequence would give next; None if it has none."""
    sequence = pg.one(connection, "SELECT pg_get_serial_sequence(%s, %s)", (pair.full_name, column))
    if sequence is None:
        return None
    return int(
        pg.one(
            connection,
            f"SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM {sequence}",
        )
    )


def highest(connection: Any, pair: Pair, column: str) -> int | None:
    value = pg.one(connection, f"SELECT max({pg_quote(column)}) FROM {pair.full_name}")
    return None if value is None else int(value)
