# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what in a database: what is, what should be, and the statements between them.

Nothing that somebody granted is taken away, but what PostgreSQL gives to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .connection import Connection, quote
from .errors import PostgresError

READ = {"r": ("SELECT",), "S": ("SELECT",)}
WRITE = {"r": ("SELECT", "INSERT", "UPDATE", "DELETE"), "S": ("USAGE", "SELECT", "UPDATE")}
_KIND = {"r": "TABLES", "S": "SEQUENCES"}


@dataclass(frozen=True)
class Database:
    """A database as it should be."""

    name: str
    owner: str
    writers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ("public",)
    extensions: tuple[str, ...] = ()
    private: bool = True


@dataclass
class State:
    """What a database says of itself. Sets hold (role, privilege), PUBLIC being the empty role."""

    owner: str = ""
    database: set[tuple[str, str]] = field(default_factory=set)
    extensions: set[str] = field(default_factory=set)
    available: set[str] = field(default_factory=set)
    schemas: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    # By schema and kind: how many relations there are, and on how many a role has a privilege.
    relations: dict[tuple[str, str], int] = field(default_factory=dict)
    granted: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    # By schema and kind, what the owner's future objects are given.
    future: dict[tuple[str, str], set[tuple[str, str]]] = field(default_factory=dict)
    # Roles that own something here that the owner should have.
    owned_by: dict[str, int] = field(default_factory=dict)
    other_databases: dict[str, list[str]] = field(default_factory=dict)


_OWNER = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
_DATABASE = """
SELECT coalesce(r.rolname, ''), a.privilege_type
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE d.datname = current_database()
"""
_SCHEMAS = """
SELECT n.nspname, coalesce(r.rolname, ''), a.privilege_type
FROM pg_namespace n
LEFT JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a ON true
LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname = ANY (%s)
"""
_RELATIONS = """
SELECT n.nspname, CASE WHEN c.relkind = 'S' THEN 'S' ELSE 'r' END, count(*)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') GROUP BY 1, 2
"""
_GRANTED = """
SELECT n.nspname, CASE WHEN c.relkind = 'S' THEN 'S' ELSE 'r' END, r.rolname, a.privilege_type,
  count(*)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
  aclexplode(coalesce(c.relacl,
    acldefault(CASE WHEN c.relkind = 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) a
JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') GROUP BY 1, 2, 3, 4
"""
_FUTURE = """
SELECT n.nspname, d.defaclobjtype, coalesce(r.rolname, ''), a.privilege_type
FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = ANY (%s) AND d.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
_OWNED = """
SELECT r.rolname, count(*) FROM pg_roles r JOIN pg_shdepend s ON s.refobjid = r.oid
WHERE s.deptype = 'o' AND s.refclassid = 'pg_authid'::regclass AND r.rolname = ANY (%s)
AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
-- What a role's future objects are given stays the role's own.
AND s.classid <> 'pg_default_acl'::regclass GROUP BY 1
"""
_OTHERS = """
SELECT pg_get_userbyid(datdba), datname FROM pg_database
WHERE pg_get_userbyid(datdba) = ANY (%s) AND datname <> current_database()
"""


def read(connection: Connection, wanted: Database) -> State:
    """How the database is now."""
    schemas, writers = list(wanted.schemas), list(wanted.writers)
    state = State(owner=connection.rows(_OWNER)[0][0])
    state.database = set(connection.rows(_DATABASE))
    state.extensions = {row[0] for row in connection.rows("SELECT extname FROM pg_extension")}
    state.available = {
        row[0] for row in connection.rows("SELECT name FROM pg_available_extensions")
    }
    for schema, role, privilege in connection.rows(_SCHEMAS, (schemas,)):
        state.schemas.setdefault(schema, set()).add((role, privilege))
    state.relations = {(row[0], row[1]): row[2] for row in connection.rows(_RELATIONS, (schemas,))}
    state.granted = {
        (row[0], row[1], row[2], row[3]): row[4] for row in connection.rows(_GRANTED, (schemas,))
    }
    for schema, kind, role, privilege in connection.rows(_FUTURE, (schemas, wanted.owner)):
        state.future.setdefault((schema, kind), set()).add((role, privilege))
    state.owned_by = dict(connection.rows(_OWNED, (writers,)))
    for role, database in connection.rows(_OTHERS, (writers,)):
        state.other_databases.setdefault(role, []).append(database)
    return state


def _roles(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)


def statements(wanted: Database, state: State) -> list[str]:
    """What makes the one of the other, in order."""
    done: list[str] = []
    database = quote(wanted.name)
    missing = [name for name in wanted.extensions if name not in state.available]
    if missing:
        raise PostgresError(
            f"Database {wanted.name}: the extensions {', '.join(missing)} are not installed on this"
            " host; name their packages in postgres_extra_packages, or leave them out."
        )
    done += [
        f"CREATE EXTENSION IF NOT EXISTS {quote(name)}"
        for name in wanted.extensions
        if name not in state.extensions
    ]
    for role in wanted.writers:
        if role == wanted.owner or not state.owned_by.get(role):
            continue
        others = state.other_databases.get(role)
        if others:
            raise PostgresError(
                f"Database {wanted.name}: {role} owns {state.owned_by[role]} objects that are to be"
                f" {wanted.owner}'s, and the databases {', '.join(others)} too, which would change"
                f" hands with them. Give those another owner first (ALTER DATABASE ... OWNER TO)."
            )
        done.append(f"REASSIGN OWNED BY {quote(role)} TO {quote(wanted.owner)}")
    if wanted.private:
        open_to_all = [p for p in ("CONNECT", "TEMPORARY") if ("", p) in state.database]
        if open_to_all:
            done.append(f"REVOKE {', '.join(open_to_all)} ON DATABASE {database} FROM PUBLIC")
    for privileges, roles in (
        (("CONNECT", "TEMPORARY"), wanted.writers),
        (("CONNECT",), wanted.readers + wanted.connect),
    ):
        for role in roles:
            lacking = [p for p in privileges if (role, p) not in state.database]
            if lacking and role != wanted.owner:
                done.append(f"GRANT {', '.join(lacking)} ON DATABASE {database} TO {quote(role)}")
    for schema in wanted.schemas:
        done += _of_schema(wanted, state, schema)
    return done


def _of_schema(wanted: Database, state: State, schema: str) -> list[str]:
    done: list[str] = []
    there = schema in state.schemas
    acl = state.schemas.get(schema, set())
    name = quote(schema)
    if not there:
        done.append(f"CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {quote(wanted.owner)}")
    if ("", "CREATE") in acl:
        done.append(f"REVOKE CREATE ON SCHEMA {name} FROM PUBLIC")
        # Until PostgreSQL 15 it was by that grant that a database's owner made its tables.
        if (wanted.owner, "CREATE") not in acl:
            done.append(f"GRANT USAGE, CREATE ON SCHEMA {name} TO {quote(wanted.owner)}")
    for table, roles in ((WRITE, wanted.writers), (READ, wanted.readers)):
        for role in roles:
            if role == wanted.owner:
                continue
            if (role, "USAGE") not in acl:
                done.append(f"GRANT USAGE ON SCHEMA {name} TO {quote(role)}")
            for kind, privileges in table.items():
                relations = state.relations.get((schema, kind), 0)
                lacking = [
                    p
                    for p in privileges
                    if state.granted.get((schema, kind, role, p), 0) < relations
                ]
                if lacking:
                    done.append(
                        f"GRANT {', '.join(lacking)} ON ALL {_KIND[kind]} IN SCHEMA {name}"
                        f" TO {quote(role)}"
                    )
                future = state.future.get((schema, kind), set())
                lacking = [p for p in privileges if (role, p) not in future]
                if lacking:
                    done.append(
                        f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(wanted.owner)} IN SCHEMA {name}"
                        f" GRANT {', '.join(lacking)} ON {_KIND[kind]} TO {quote(role)}"
                    )
    return done


_MEMBERS = """
SELECT m.rolname, g.rolname FROM pg_auth_members a
JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
"""


def membership_statements(
    wanted: Mapping[str, Sequence[str]], current: set[tuple[str, str]], known: set[str]
) -> list[str]:
    """GRANTs of roles to members; what somebody else granted stays."""
    done = []
    for member, groups in wanted.items():
        unknown = [name for name in groups if name not in known]
        if unknown:
            raise PostgresError(
                f"postgres_users, {member}: member_of names {', '.join(unknown)},"
                " and there is no such role."
            )
        lacking = [name for name in groups if (member, name) not in current]
        if lacking:
            done.append(f"GRANT {_roles(lacking)} TO {quote(member)}")
    return done


def apply(
    port: int, databases: Sequence[Database], members: Mapping[str, Sequence[str]], check: bool
) -> list[dict[str, Any]]:
    """Statements that were run, or would be, by database."""
    told: list[dict[str, Any]] = []
    if members:
        with Connection(port, "postgres") as connection:
            current = set(connection.rows(_MEMBERS))
            known = {row[0] for row in connection.rows("SELECT rolname FROM pg_roles")}
            if check:
                # Those that this run would have made.
                known |= set(members) | {name for groups in members.values() for name in groups}
            done = membership_statements(members, current, known)
            for text in done:
                if not check:
                    connection.do(text)
            if done:
                told.append({"database": "postgres", "statements": done})
    for wanted in databases:
        if check and not _exists(port, wanted.name):
            told.append({"database": wanted.name, "statements": ["(all privileges)"]})
            continue
        done = []
        with Connection(port, wanted.name) as connection:
            # What changes hands takes its old owner's rights along, so it is looked at again.
            for _turn in range(3):
                still = statements(wanted, read(connection, wanted))
                done += still
                if check or not still:
                    break
                for text in still:
                    connection.do(text)
        if done:
            told.append({"database": wanted.name, "statements": done})
    return told


def _exists(port: int, name: str) -> bool:
    with Connection(port, "postgres") as connection:
        return bool(connection.rows("SELECT 1 FROM pg_database WHERE datname = %s", (name,)))
