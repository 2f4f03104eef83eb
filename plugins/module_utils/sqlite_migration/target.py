# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PostgreSQL side: connection, what must hold before anything is read, lock and record."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from .errors import MigrationError
from .expressions import quote_identifier

try:
    import psycopg2
    import psycopg2.extensions

    HAVE_PSYCOPG2 = True
except ImportError:
    HAVE_PSYCOPG2 = False

MINIMUM_VERSION = 140000
RECORD_SCHEMA = "golive_webstack"
RECORD_TABLE = "golive_webstack.migration"
QUARANTINE_TABLE = "golive_webstack.quarantine"
NULLED_TABLE = "golive_webstack.nulled"
# One number for every migration of a database: two into different schemas would meet in
# the record's table anyway.
LOCK_KEY = 0x676F6C697665
_REFUSED_SCHEMAS = {RECORD_SCHEMA, "information_schema"}

_CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS golive_webstack.migration (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name text NOT NULL UNIQUE,
    source_path text NOT NULL,
    source_size bigint NOT NULL,
    source_sha256 text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    collection_version text NOT NULL,
    tables json NOT NULL,
    verified_at timestamptz,
    verification json
)
"""
# Added after the first release of the table.
_RECORD_ADDITIONS = {
    "schema_mode": "text",
    "not_carried": "json",
    "moved_values": "json",
    "backup_copy": "text",
}
_CREATE_QUARANTINE = """
CREATE TABLE IF NOT EXISTS golive_webstack.quarantine (
    migration_id bigint NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    column_name text NOT NULL,
    row_key json NOT NULL,
    storage_class text NOT NULL,
    original bytea,
    reason text NOT NULL,
    whole_row boolean NOT NULL
)
"""
_CREATE_NULLED = """
CREATE TABLE IF NOT EXISTS golive_webstack.nulled (
    migration_id bigint NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    column_name text NOT NULL,
    row_key json NOT NULL,
    storage_class text NOT NULL,
    reason text NOT NULL
)
"""


class Unreachable(MigrationError):
    """No server, or no such database, yet: what check mode must live with."""


@dataclass(frozen=True)
class Target:
    """Where to connect. `dsn` is for use without Ansible; the rest overrides it."""

    host: str = ""
    port: int = 5432
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    unix_socket: str = ""
    ssl_mode: str = "prefer"
    ca_cert: str | None = None
    dsn: str | None = field(default=None, repr=False)

    def parameters(self) -> dict[str, Any]:
        if self.dsn is not None:
            return {"dsn": self.dsn}
        given: dict[str, Any] = {
            "host": self.unix_socket or self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def label(self) -> str:
        if self.dsn is not None:
            parsed = psycopg2.extensions.parse_dsn(self.dsn)
            return f"{parsed.get('dbname', '')} at {parsed.get('host', 'the local socket')}"
        place = self.unix_socket or self.host or "the local socket"
        return f"database {self.database} at {place} port {self.port}"


def _application_name(purpose: str) -> str:
    return f"golive.webstack {purpose} {socket.gethostname()}:{os.getpid()}"[:63]


def _server_listens(target: Target) -> bool:
    """Whether anything answers at the address, to tell 'no server' from 'refused'."""
    host = target.unix_socket or target.host
    if not host or host.startswith("/"):
        folder = host or "/var/run/postgresql"
        family, address = socket.AF_UNIX, f"{folder}/.s.PGSQL.{target.port}"
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            return probe.connect_ex(address) == 0
    try:
        with socket.create_connection((host, target.port), timeout=5):
            return True
    except OSError:
        return False


def _lacks_database(target: Target, application: str) -> bool:
    """Asks the server itself, as its message may be in any language."""
    for maintenance in ("postgres", "template1"):
        with contextlib.suppress(psycopg2.Error):
            given = {**target.parameters(), "dbname": maintenance}
            connection = psycopg2.connect(**given, application_name=application, connect_timeout=10)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s",
                        (target.database,),
                    )
                    return cursor.fetchone() is None
            finally:
                connection.close()
    return False


def connect(target: Target, purpose: str) -> Any:
    if not HAVE_PSYCOPG2:
        raise Unreachable(
            "The Python library psycopg2 is missing on this host. Install Debian's "
            "python3-psycopg2."
        )
    application = _application_name(purpose)
    parameters = target.parameters()
    try:
        connection = psycopg2.connect(
            **parameters, application_name=application, connect_timeout=10
        )
    except psycopg2.Error as error:
        text = " ".join(str(error).split())
        if target.password:
            text = text.replace(target.password, "********")
        if target.dsn is None and not _server_listens(target):
            raise Unreachable(
                f"No PostgreSQL server answers for {target.label}: {text}. Start it, or set "
                "login_host, login_port or login_unix_socket."
            ) from None
        if target.dsn is None and (
            re.search(r'database "[^"]*" does not exist', text)
            or _lacks_database(target, application)
        ):
            raise Unreachable(
                f"The PostgreSQL server has no database {target.database}: {text}. Create it "
                "first, or set login_db."
            ) from None
        raise MigrationError(
            f"PostgreSQL refuses the connection to {target.label}: {text}. Check login_user, "
            "login_password and pg_hba.conf."
        ) from None
    connection.set_client_encoding("UTF8")
    return connection


def fetch(connection: Any, sql: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def execute(connection: Any, sql: Any, parameters: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def one(connection: Any, sql: Any, parameters: Any = None) -> Any:
    rows = fetch(connection, sql, parameters)
    return rows[0][0] if rows else None


def settle_session(connection: Any) -> None:
    """Settings of the transaction that neither the role nor the database may change."""
    for setting in (
        "search_path = pg_catalog",
        "statement_timeout = 0",
        "idle_in_transaction_session_timeout = 0",
        "DateStyle = 'ISO, YMD'",
        "TimeZone = 'UTC'",
        "standard_conforming_strings = on",
        "default_tablespace = ''",
        "row_security = off",
    ):
        execute(connection, f"SET LOCAL {setting}")


def check_server(connection: Any, target: Target) -> None:
    """Version and encoding."""
    if connection.server_version < MINIMUM_VERSION:
        version = one(connection, "SHOW server_version")
        raise MigrationError(
            f"The server of {target.label} is PostgreSQL {version}; 14 is the oldest that is "
            "supported. Upgrade it, or set login_host and login_port to a newer one."
        )
    encoding = one(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        raise MigrationError(
            f"The encoding of {target.label} is {encoding}, which can't hold every text of "
            "SQLite. Create it with ENCODING 'UTF8' TEMPLATE template0."
        )


def check_rights(connection: Any, target: Target, schema: str) -> None:
    user = one(connection, "SELECT current_user")
    if schema in _REFUSED_SCHEMAS or schema.startswith("pg_"):
        raise MigrationError(f"The schema {schema} is reserved. Set schema to another name.")
    exists = one(
        connection, "SELECT true FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)
    )
    may_create = one(
        connection,
        "SELECT has_database_privilege(current_user, current_database(), 'CREATE')",
    )
    if exists and not one(
        connection, "SELECT has_schema_privilege(current_user, %s, 'CREATE')", (schema,)
    ):
        raise MigrationError(
            f"The role {user} may not create tables in schema {schema} of {target.label}. Make it "
            f"the owner of the database, or GRANT CREATE ON SCHEMA {quote_identifier(schema)} "
            f"TO {quote_identifier(user)}."
        )
    kept = one(
        connection, "SELECT true FROM pg_catalog.pg_namespace WHERE nspname = %s", (RECORD_SCHEMA,)
    )
    if not may_create and not (exists and kept):
        missing = schema if not exists else f"{RECORD_SCHEMA}, which keeps the record"
        raise MigrationError(
            f"The role {user} may not create the schema {missing} in {target.label}. Make it the "
            f"owner of the database, or GRANT CREATE ON DATABASE TO {quote_identifier(user)}."
        )


def existing_objects(connection: Any, schema: str) -> list[str]:
    """Tables, views and sequences of a schema, without those that belong to an extension."""
    rows = fetch(
        connection,
        """
        SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                              WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table'
                              ELSE 'table' END || ' ' || c.relname
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_depend d
              WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
        ORDER BY 1
        """,
        (schema,),
    )
    return [row[0] for row in rows]


def existing_tables(connection: Any, schema: str) -> list[str]:
    rows = fetch(
        connection,
        """
        SELECT c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
        """,
        (schema,),
    )
    return [row[0] for row in rows]


def take_lock(connection: Any, target: Target) -> None:
    if one(connection, "SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", (LOCK_KEY,)):
        return
    holders = fetch(
        connection,
        """
        SELECT l.pid, a.application_name, a.xact_start
        FROM pg_catalog.pg_locks l
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted
          AND l.database = (SELECT oid FROM pg_catalog.pg_database
                            WHERE datname = current_database())
          AND l.classid = %s AND l.objid = %s AND l.objsubid = 1
        """,
        (LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF),
    )
    who = "another session"
    if holders:
        pid, name, since = holders[0]
        who = f"{name or 'another session'}, server process {pid}"
        who += f", since {since.isoformat()}" if since else ""
    raise MigrationError(
        f"Another migration into {target.label} is running: {who}. Wait for it to finish; nothing "
        "was changed.",
        running=[
            {"pid": p, "application_name": n, "since": s.isoformat() if s else None}
            for p, n, s in holders
        ],
    )


def read_record(connection: Any, schema: str) -> dict[str, Any] | None:
    """The record of an earlier migration into this schema."""
    try:
        if one(connection, "SELECT to_regclass(%s)", (RECORD_TABLE,)) is None:
            return None
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {RECORD_TABLE} WHERE schema_name = %s", (schema,))
            row = cursor.fetchone()
            names = [column.name for column in cursor.description]
    except psycopg2.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"The role may not read {RECORD_TABLE}, the record of migrations: "
            f"{error.diag.message_primary}. Connect as the role that migrated."
        ) from None
    if row is None:
        return None
    record: dict[str, Any] = dict(zip(names, row))
    for name in ("started_at", "finished_at", "verified_at"):
        if record[name] is not None:
            record[name] = record[name].isoformat()
    return record


def write_record(connection: Any, values: dict[str, Any]) -> int:
    """Its number."""
    names = ", ".join(values)
    marks = ", ".join(["%s"] * len(values))
    return int(
        one(
            connection,
            f"INSERT INTO {RECORD_TABLE} ({names}, finished_at) "
            f"VALUES ({marks}, clock_timestamp()) RETURNING id",
            tuple(values.values()),
        )
    )


def create_record_table(connection: Any) -> None:
    if (
        one(
            connection,
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s",
            (RECORD_SCHEMA,),
        )
        is None
    ):
        execute(connection, f"CREATE SCHEMA {RECORD_SCHEMA}")
    execute(connection, _CREATE_RECORD)
    known = {
        name
        for (name,) in fetch(
            connection,
            "SELECT attname FROM pg_catalog.pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0",
            (RECORD_TABLE,),
        )
    }
    for name, kind in _RECORD_ADDITIONS.items():
        if name not in known:
            execute(
                connection, f"ALTER TABLE {RECORD_TABLE} ADD COLUMN IF NOT EXISTS {name} {kind}"
            )


def create_quarantine_table(connection: Any) -> None:
    execute(connection, _CREATE_QUARANTINE)


def create_nulled_table(connection: Any) -> None:
    execute(connection, _CREATE_NULLED)


def prepare_for_indexes(connection: Any, target: Target) -> None:
    """Memory for index builds that the host can spare, and an end if the client is gone."""
    wanted = 128
    if is_local(target):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        wanted = min(1024, max(64, memory // 16))
    current = one(connection, "SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
    if current < wanted << 20:
        execute(connection, f"SET LOCAL maintenance_work_mem = '{wanted}MB'")
    # Some platforms can't watch the client's socket.
    execute(connection, "SAVEPOINT setting")
    try:
        execute(connection, "SET LOCAL client_connection_check_interval = '10s'")
    except psycopg2.Error:
        execute(connection, "ROLLBACK TO SAVEPOINT setting")
    execute(connection, "RELEASE SAVEPOINT setting")


def tables_with_expressions(connection: Any, schema: str) -> set[str]:
    """Those with an index on an expression."""
    rows = fetch(
        connection,
        """
        SELECT DISTINCT c.relname FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE i.indexprs IS NOT NULL AND n.nspname = %s
        """,
        (schema,),
    )
    return {name for (name,) in rows}


def share_processors(connection: Any, target: Target, beside: int = 0) -> None:
    """Index builds by as many of the server's processes as this host has processors.

    `beside` of them are left to work of ours that runs meanwhile. Another host's are not known:
    there the server's own setting decides.
    """
    if is_local(target):
        # The one that serves this connection works, too.
        workers = max(0, min(4, processors() - 1 - beside))
        execute(connection, f"SET LOCAL max_parallel_maintenance_workers = {workers}")


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_local(target: Target) -> bool:
    """Whether the server surely runs on this host."""
    parameters = target.parameters()
    if "dsn" in parameters:
        parameters = psycopg2.extensions.parse_dsn(parameters["dsn"])
    host = str(parameters.get("host") or parameters.get("hostaddr") or "")
    return not host or host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")


def data_folder(connection: Any, target: Target) -> str | None:
    """The server's data directory, if it is on this host and known."""
    if not is_local(target):
        return None
    found = None
    if one(connection, "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')"):
        found = one(connection, "SELECT current_setting('data_directory', true)")
    found = found or f"/var/lib/postgresql/{connection.server_version // 10000}/main"
    return found if os.path.isdir(found) else None


def check_room(connection: Any, target: Target, size: int) -> None:
    """Whether the server's disk can hold tables of about the source's size."""
    folder = data_folder(connection, target)
    if folder is None:
        return
    try:
        disk = os.statvfs(folder)
    except OSError:
        return
    free = disk.f_bavail * disk.f_frsize
    if free < size:
        raise MigrationError(
            f"The disk of {target.label} ({folder}) has {free >> 20} MB free, and the source has "
            f"{size >> 20} MB: its rows can't fit. Make room there, or set login_host to a server "
            "with more. Nothing was read."
        )
