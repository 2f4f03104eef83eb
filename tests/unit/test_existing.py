# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairing the source with an existing schema; what needs a server is in the integration tests."""

from __future__ import annotations

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import existing
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.plan import (
    Chosen,
    Wishes,
    split_override,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.schema import (
    Column,
    Schema,
    Table,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.sqltext import (
    TableText,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    postgres_type,
)


def source(**tables: list[str]) -> Schema:
    return Schema(
        [
            Table(
                name, 0, [Column(c, "TEXT", False, None, 0) for c in columns], [], [], TableText()
            )
            for name, columns in tables.items()
        ]
    )


def target_column(name: str, not_null: bool = False, default: str | None = None) -> object:
    return existing.TargetColumn(name, not_null, "", False, default, postgres_type("text", ""))


def target(**tables: list[object]) -> list[existing.TargetTable]:
    return [
        existing.TargetTable(number, name, False, True, "me", list(columns))  # type: ignore[arg-type]
        for number, (name, columns) in enumerate(tables.items())
    ]


def pair(schema: Schema, tables: list[existing.TargetTable], **rename: str) -> list[existing.Pair]:
    given = {key.replace("__", "."): name for key, name in rename.items()}
    return existing.pair_up(schema, tables, Chosen(schema, Wishes(rename=given)), "The target")


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("a", ["a", "A"], "a"),
        ("A", ["a"], "a"),
        ("Ab", ["aB", "AB"], None),
        ("x" * 70, ["x" * 63], "x" * 63),
        ("ü" * 40, ["ü" * 31], "ü" * 31),
        ("a", ["b"], None),
    ],
)
def test_names_are_found(wanted: str, names: list[str], found: str | None) -> None:
    assert existing._find(wanted, names) == found


def test_pairs() -> None:
    schema = source(Users=["id", "Name"], logs=["id"])
    found = pair(
        schema,
        target(
            users=[target_column("id"), target_column("name"), target_column("more")],
            journal=[target_column("number", True)],
        ),
        logs="journal",
        logs__id="number",
    )
    assert [(p.source.name, p.target.name) for p in found] == [
        ("Users", "users"),
        ("logs", "journal"),
    ]
    assert [t.name for _c, t in found[0].columns] == ["id", "name"]
    assert [t.name for _c, t in found[1].columns] == ["number"]


def test_all_that_is_missing_is_said_at_once() -> None:
    schema = source(a=["x", "y"], b=["x"], c=["x"])
    tables = target(
        a=[target_column("x"), target_column("z", True), target_column("w", True, "1")],
        c=[target_column("x")],
    )
    with pytest.raises(MigrationError) as caught:
        pair(schema, tables)
    assert caught.value.details["missing"] == [
        "column y of a is missing",
        "column z of a is NOT NULL without a default, and the source doesn't have it",
        "table b is missing",
    ]
    assert "exclude" in caught.value.message and "rename" in caught.value.message


def test_two_tables_cannot_lead_to_one() -> None:
    with pytest.raises(MigrationError, match="a and b both lead to table b"):
        pair(source(a=["x"], b=["x"]), target(b=[target_column("x")]), a="b")


def test_a_computed_column_may_be_missing() -> None:
    schema = source(a=["x", "g"])
    schema.tables[0].columns[1].generated = True
    found = pair(schema, target(a=[target_column("x")]))
    assert [c.name for c, _t in found[0].columns] == ["x"]
    assert [(item.kind, item.name) for item in schema.left_out] == [("generated column", "a.g")]


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [
        ("timestamptz using epoch_ms", ("timestamptz", "epoch_ms")),
        ("using epoch_ms", ("", "epoch_ms")),
        ("text", ("text", None)),
        (" numeric(5,2) ", ("numeric(5,2)", None)),
    ],
)
def test_overrides_are_split(wanted: str, parts: tuple[str, str | None]) -> None:
    assert split_override(wanted) == parts


def test_tables_of_another_role_are_named() -> None:
    schema = source(a=["x"])
    pairs = pair(schema, target(a=[target_column("x")]))
    existing._check_owner(pairs, [], "schema public")
    pairs[0].target.owned = False
    foreign = ("fk", 1, 0, "public", "child", "FOREIGN KEY ...", None, False, "she")
    with pytest.raises(MigrationError, match=r"a \(me\), child \(she\).*login_user"):
        existing._check_owner(pairs, [foreign], "schema public")
