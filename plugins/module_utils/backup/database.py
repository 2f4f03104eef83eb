# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a server by its socket, and what is asked of any server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from .driver import psycopg2

# A value's text must not depend on who asks: the settings that shape it are set on both sides.
_SAME_TEXT = (
    "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';"
    " SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lc_monetary = 'C';"
    " SET xmlbinary = 'base64'; SET search_path = pg_catalog; SET row_security = off;"
    " SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
)


@dataclasses.dataclass(frozen=True)
class Server:
    """Where a server listens."""

    socket_directory: str
    port: int

    @contextlib.contextmanager
    def connect(
        self, database: str = "postgres", autocommit: bool = True
    ) -> Iterator[psycopg2.extensions.connection]:
        connection = psycopg2.connect(
            dbname=database,
            host=self.socket_directory,
            port=self.port,
            user="postgres",
            application_name="golive-backup",
            connect_timeout=20,
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_SAME_TEXT)
            connection.autocommit = autocommit
            yield connection
        finally:
            connection.close()

    def ask(self, query: Any, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def one(self, query: Any, *values: Any, database: str = "postgres") -> Any:
        return self.ask(query, *values, database=database)[0][0]

    def databases(self) -> list[str]:
        """All that can be connected to, without the templates."""
        return [
            str(name)
            for (name,) in self.ask(
                "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
                # -2 marks one whose removal was begun.
                " AND datconnlimit <> -2 ORDER BY 1"
            )
        ]

    @property
    def options(self) -> list[str]:
        """For PostgreSQL's own programs."""
        return [f"--host={self.socket_directory}", f"--port={self.port}", "--username=postgres"]
