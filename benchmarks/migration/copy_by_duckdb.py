#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's tables into PostgreSQL's by DuckDB; runs in DuckDB's own virtual environment."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import duckdb  # type: ignore[import-not-found,unused-ignore]


def extension(name: str) -> str:
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    assert found and found.origin
    return str(next(Path(found.origin).parent.rglob(f"{name}.duckdb_extension")))


def main(source: str, dsn: str, tables: list[str]) -> None:
    connection = duckdb.connect()
    for name in ("sqlite_scanner", "postgres_scanner"):
        connection.load_extension(extension(name))
    connection.execute(f"ATTACH '{source}' AS here (TYPE sqlite, READ_ONLY)")
    connection.execute(f"ATTACH '{dsn}' AS there (TYPE postgres)")
    for table in tables:
        connection.execute(f'INSERT INTO there.public."{table}" SELECT * FROM here."{table}"')


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
