# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection as the system user postgres, by the socket."""

from __future__ import annotations

from typing import Any

from .errors import PostgresError

try:
    import psycopg2
    import psycopg2.extensions

    HAVE_PSYCOPG2 = True
except ImportError:
    HAVE_PSYCOPG2 = False


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Connection:
    """Each statement is a transaction of its own: some of ours can't be in a longer one."""

    def __init__(self, port: int, database: str) -> None:
        if not HAVE_PSYCOPG2:
            raise PostgresError("psycopg2 is missing on this host; install python3-psycopg2.")
        self.database = database
        try:
            self._connection = psycopg2.connect(
                port=port,
                dbname=database,
                connect_timeout=20,
                application_name="golive.webstack",
            )
        except psycopg2.Error as error:
            raise PostgresError(f"Database {database}, port {port}: {str(error).strip()}") from None
        self._connection.autocommit = True

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rows(self, query: str, parameters: Any = None) -> list[Any]:
        return self._run(query, parameters, True)

    def do(self, statement: str) -> None:
        self._run(statement, None, False)

    def _run(self, text: str, parameters: Any, answers: bool) -> list[Any]:
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(text, parameters)
                return list(cursor.fetchall()) if answers else []
            except psycopg2.Error as error:
                raise StatementError(
                    self.database, text if not answers else "", str(error).strip(), error.pgcode
                ) from None


class StatementError(PostgresError):
    """A statement that PostgreSQL refused."""

    def __init__(self, database: str, statement: str, said: str, code: str | None) -> None:
        shown = f" at '{statement}'" if statement else ""
        super().__init__(f"Database {database}: PostgreSQL says{shown}: {said}")
        self.code = code or ""
