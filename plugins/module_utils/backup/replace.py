# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One database from a restored cluster into the live one, and the change of names."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from . import evidence
from .common import BackupError, Settings, note, now, run, stamp
from .database import Server
from .driver import psycopg2, sql

MARK = "golive: "
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries",
    "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip


def derived(name: str, kind: str, moment: str) -> str:
    """`NAME_before_20260131T140500Z`, within PostgreSQL's 63 bytes."""
    ending = f"_{kind}_{moment}"
    start = name.encode()[: 63 - len(ending)].decode("utf-8", "ignore")
    return start + ending


def is_derived(name: str, kind: str) -> bool:
    return bool(re.search(rf"_{kind}_\d{{8}}T\d{{6}}Z$", name))


def setting_values(name: str, value: str) -> list[str]:
    """A kept setting as the literals of `SET name = ...`; a list's entries one by one."""
    if name.lower() not in _LISTS:
        return [value]
    found = [
        quoted.replace('""', '"') if quoted or not plain else plain.strip()
        for quoted, plain in re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^,"]+))\s*(?:,|$)', value)
    ]
    return found or [""]


def exists(server: Server, name: str) -> bool:
    return bool(server.ask("SELECT 1 FROM pg_database WHERE datname = %s", name))


def comment(server: Server, name: str) -> str:
    found = server.ask(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
        " WHERE datname = %s",
        name,
    )
    return str(found[0][0]) if found else ""


def properties(server: Server, name: str) -> dict[str, Any]:
    """What CREATE DATABASE, GRANT and SET made of a database."""
    found = server.ask(
        "SELECT to_jsonb(d) || jsonb_build_object('owner', pg_get_userbyid(datdba),"
        " 'encoding_name', pg_encoding_to_char(encoding),"
        " 'comment', coalesce(shobj_description(oid, 'pg_database'), ''),"
        " 'size', pg_database_size(oid)) FROM pg_database d WHERE datname = %s",
        name,
    )
    if not found:
        raise BackupError(
            f"The restored cluster has no database {name!r}; it has"
            f" {', '.join(server.databases())}. Nothing was changed in the live one."
        )
    told = dict(found[0][0])
    told["grants"] = server.ask(
        "SELECT CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,"
        " a.privilege_type, a.is_grantable FROM pg_database d, aclexplode(d.datacl) a"
        " WHERE datname = %s",
        name,
    )
    told["settings"] = server.ask(
        "SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_get_userbyid(s.setrole) END,"
        " unnest(s.setconfig)"
        " FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = %s",
        name,
    )
    told["roles"] = sorted(
        {told["owner"]}
        | {one[0] for one in told["grants"] if one[0]}
        | {one[0] for one in told["settings"] if one[0]}
        | {
            str(role)
            for (role,) in server.ask(
                "SELECT DISTINCT pg_get_userbyid(refobjid) FROM pg_shdepend s"
                " JOIN pg_database d ON d.oid = s.dbid"
                " WHERE refclassid = 'pg_authid'::regclass AND datname = %s",
                name,
            )
        }
    )
    return told


def create_statement(name: str, told: dict[str, Any]) -> sql.Composed:
    parts = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {}").format(
            sql.Identifier(name), sql.Identifier(told["owner"]), sql.Literal(told["encoding_name"])
        ),
        sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(told["datcollate"]), sql.Literal(told["datctype"])
        ),
    ]
    locale = told.get("datlocale") or told.get("daticulocale")
    provider = told.get("datlocprovider", "c")
    if provider == "i":
        parts.append(sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(locale)))
        if told.get("daticurules"):
            parts.append(sql.SQL("ICU_RULES {}").format(sql.Literal(told["daticurules"])))
    elif provider == "b":
        parts.append(
            sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(sql.Literal(locale))
        )
    if told["datconnlimit"] >= 0:
        parts.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(told["datconnlimit"])))
    return sql.SQL(" ").join(parts)


def privilege_statements(name: str, told: dict[str, Any]) -> Iterator[sql.Composed]:
    database = sql.Identifier(name)
    if told["datacl"] is not None:
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(
            database, sql.Identifier(told["owner"])
        )
        for role, privilege, grantable in told["grants"]:
            yield sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                sql.SQL(privilege),
                database,
                sql.Identifier(role) if role else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
    for role, setting in told["settings"]:
        key, _equals, value = setting.partition("=")
        values = sql.SQL(", ").join(sql.Literal(one) for one in setting_values(key, value))
        start = (
            sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
            if role
            else sql.SQL("ALTER DATABASE {}").format(database)
        )
        names = sql.SQL(".").join(sql.Identifier(part) for part in key.split("."))
        yield sql.SQL("{} SET {} TO {}").format(start, names, values)


def drop_leftovers(server: Server, name: str) -> None:
    """Copies of killed runs: they bear the mark, and never had the name."""
    for (other,) in server.ask("SELECT datname FROM pg_database"):
        if is_derived(other, "restored") and comment(server, other) == f"{MARK}copy of {name}":
            note(f"Removing {other}, which a run that was killed has left")
            server.ask(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(other)))


def bring(settings: Settings, source: Server, live: Server, name: str, folder: str) -> str:
    """Copy a database under a new name and compare both; the new name."""
    told = properties(source, name)
    there = {role for (role,) in live.ask("SELECT rolname FROM pg_roles")}
    lacking = [role for role in told["roles"] if role not in there]
    if lacking:
        raise BackupError(
            f"The restored {name} needs the roles {', '.join(lacking)}, which the live cluster has"
            " not. Make them (CREATE ROLE ..., or run phase1_database.yml) and run this again;"
            " nothing was changed."
        )
    drop_leftovers(live, name)
    new = derived(name, "restored", stamp(now()))
    note(f"Copying {name} into the live cluster as {new}")
    live.ask(create_statement(new, told))
    live.ask(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(
            sql.Identifier(new), sql.Literal(f"{MARK}copy of {name}")
        )
    )
    try:
        shutil.rmtree(folder, ignore_errors=True)
        run(
            f"{settings.binaries}/pg_dump", "--format=directory", f"--jobs={settings.jobs}",
            "--compress=1", *source.options, f"--file={folder}", f"--dbname={_dbname(name)}",
        )  # fmt: skip
        run(
            f"{settings.binaries}/pg_restore", "--exit-on-error", f"--jobs={settings.jobs}",
            *live.options, f"--dbname={_dbname(new)}", folder,
        )  # fmt: skip
        different = evidence.differences(
            evidence.all_of(source, name), evidence.all_of(live, new), name
        )
        if different:
            raise BackupError(
                f"The copy of {name} is not equal to what was restored: {'; '.join(different[:20])}"
            )
        for statement in privilege_statements(new, told):
            live.ask(statement)
        run(
            f"{settings.binaries}/vacuumdb", "--analyze-only", f"--jobs={settings.jobs}",
            *live.options, f"--dbname={_dbname(new)}",
        )  # fmt: skip
    except BaseException:
        live.ask(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(new)))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return new


def _dbname(name: str) -> str:
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def gate(live: Server, name: str, opened: bool) -> None:
    live.ask(
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
            sql.Identifier(name), sql.SQL("true" if opened else "false")
        )
    )


def switch(live: Server, name: str, new: str, old: str, text: str, seconds: float = 60) -> None:
    """The copy takes the name. Both renames are one transaction; before it the name is closed."""
    was_there = exists(live, name)
    try:
        if was_there:
            gate(live, name, False)
            end = time.monotonic() + seconds
            while live.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name
            ):
                if time.monotonic() > end:
                    raise BackupError(f"Sessions of {name} did not end within {seconds:g} s.")
                time.sleep(0.1)
        with live.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '30s'")
            if was_there:
                cursor.execute(_rename(name, old))
                cursor.execute(
                    sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                        sql.Identifier(old),
                        sql.Literal(f"{MARK}replaced, was {name} until {stamp(now())}"),
                    )
                )
            cursor.execute(_rename(new, name))
            cursor.execute(
                sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                    sql.Identifier(name), sql.Literal(text or None)
                )
            )
            connection.commit()
    except BaseException:
        if was_there and exists(live, name):
            gate(live, name, True)
        raise
    if was_there:
        gate(live, old, True)


def _rename(before: str, after: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
        sql.Identifier(before), sql.Identifier(after)
    )


def droppable(live: Server) -> list[str]:
    return [
        name
        for (name,) in live.ask("SELECT datname FROM pg_database ORDER BY 1")
        if is_derived(name, "before") and comment(live, name).startswith(f"{MARK}replaced")
    ]


def drop_old(live: Server, name: str) -> bool:
    """Remove a database that was replaced; no other can be removed here."""
    kept = droppable(live)
    if name not in kept:
        if is_derived(name, "before") and not exists(live, name):
            return False
        raise BackupError(
            f"restore_drop_old names {name!r}, which is no database that a restore has replaced."
            f" Those that can be dropped: {', '.join(kept) or 'none'}. Nothing was dropped."
        )
    try:
        live.ask(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    except psycopg2.errors.ObjectInUse:
        raise BackupError(f"Somebody is connected to {name}; nothing was dropped.") from None
    return True
