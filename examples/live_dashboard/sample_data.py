#!/usr/bin/env python3
"""Write a SQLite database with sample data for the Live Validation Dashboard.

Needs nothing but Python 3.10. The same seed and size give the same rows, and
with the same SQLite library the same file. Demo login, for demonstrations only:

    e-mail    demo@example.com
    password  demo-password-2025
    API key   demo-api-key-0001  (X-API-Key, posts to application 1)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

REVISION = "0001_initial"
DEMO_EMAIL = "demo@example.com"
DEMO_PASSWORD = "demo-password-2025"
DEMO_API_KEY = "demo-api-key-0001"

USERS = 50
APPS = 10
RULES_PER_APP = 6
OTPS = 20
DAYS = 90
# Fixed, or the same seed would give other rows tomorrow.
END = datetime(2025, 12, 31)
START = END - timedelta(days=DAYS)

TABLES = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE users (
    id INTEGER NOT NULL,
    email VARCHAR(254) NOT NULL,
    name VARCHAR(120) NOT NULL,
    password_hash VARCHAR(255) NOT NULL,
    is_active BOOLEAN NOT NULL,
    is_verified BOOLEAN NOT NULL,
    profile JSON,
    created_at DATETIME NOT NULL,
    last_login_at DATETIME,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_email UNIQUE (email)
);
CREATE TABLE apps (
    id INTEGER NOT NULL,
    owner_id INTEGER NOT NULL,
    name VARCHAR(120) NOT NULL,
    description TEXT,
    environment VARCHAR(20) NOT NULL,
    api_key_hash VARCHAR(64) NOT NULL,
    is_active BOOLEAN NOT NULL,
    error_budget NUMERIC(5, 2) NOT NULL,
    config JSON NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME,
    CONSTRAINT pk_apps PRIMARY KEY (id),
    CONSTRAINT fk_apps_owner_id_users
        FOREIGN KEY(owner_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT uq_apps_api_key_hash UNIQUE (api_key_hash),
    CONSTRAINT uq_apps_name UNIQUE (name)
);
CREATE TABLE otps (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    purpose VARCHAR(20) NOT NULL,
    code_hash VARCHAR(64) NOT NULL,
    attempts INTEGER NOT NULL,
    expires_at DATETIME NOT NULL,
    consumed_at DATETIME,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_otps PRIMARY KEY (id),
    CONSTRAINT fk_otps_user_id_users
        FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE validation_rules (
    id INTEGER NOT NULL,
    app_id INTEGER NOT NULL,
    name VARCHAR(120) NOT NULL,
    field VARCHAR(120) NOT NULL,
    kind VARCHAR(20) NOT NULL,
    params JSON NOT NULL,
    severity VARCHAR(20) NOT NULL,
    is_enabled BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_validation_rules PRIMARY KEY (id),
    CONSTRAINT fk_validation_rules_app_id_apps
        FOREIGN KEY(app_id) REFERENCES apps (id) ON DELETE CASCADE,
    CONSTRAINT uq_validation_rules_app_id_name UNIQUE (app_id, name)
);
CREATE TABLE log_entries (
    id INTEGER NOT NULL,
    app_id INTEGER NOT NULL,
    user_id INTEGER,
    rule_id INTEGER,
    level VARCHAR(10) NOT NULL,
    message TEXT NOT NULL,
    source VARCHAR(120),
    is_valid BOOLEAN NOT NULL,
    duration_ms NUMERIC(12, 3),
    request_id VARCHAR(64),
    details JSON,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_log_entries PRIMARY KEY (id),
    CONSTRAINT fk_log_entries_app_id_apps
        FOREIGN KEY(app_id) REFERENCES apps (id) ON DELETE CASCADE,
    CONSTRAINT fk_log_entries_rule_id_validation_rules
        FOREIGN KEY(rule_id) REFERENCES validation_rules (id) ON DELETE SET NULL,
    CONSTRAINT fk_log_entries_user_id_users
        FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE SET NULL
);
"""

# Made after the rows are in, which is much faster.
INDEXES = """
CREATE INDEX ix_apps_owner_id ON apps (owner_id);
CREATE INDEX ix_otps_expires_at ON otps (expires_at);
CREATE INDEX ix_otps_user_id_purpose ON otps (user_id, purpose);
CREATE INDEX ix_log_entries_app_id_id ON log_entries (app_id, id);
CREATE INDEX ix_log_entries_created_at ON log_entries (created_at);
CREATE INDEX ix_log_entries_level_id ON log_entries (level, id);
CREATE INDEX ix_log_entries_rule_id ON log_entries (rule_id);
CREATE INDEX ix_log_entries_user_id ON log_entries (user_id);
"""

APP_NAMES = (
    "Orders API",
    "Payments",
    "Search",
    "Inventory",
    "Notifications",
    "Reports",
    'Import "nightly"',
    "Übersetzungen",
    "地図サービス",
    "Archive's index",
)
APP_DESCRIPTIONS: tuple[str | None, ...] = (
    "Takes orders and confirms them.",
    None,
    "",
    "Stock per warehouse;\nupdated every minute.",
    "Mail, push and SMS.",
    None,
    "C:\\jobs\\nightly, runs at 02:00",
    "Texte in 14 Sprachen – geprüft",
    "地図とルート検索 🗺️",
    "Don't delete.",
)
RULES: tuple[tuple[str, str, str, dict[str, Any], str], ...] = (
    ("message present", "message", "required", {}, "critical"),
    ("message not too long", "message", "max_length", {"value": 2000}, "warning"),
    (
        "known level",
        "level",
        "one_of",
        {"values": ["debug", "info", "warning", "error", "critical"]},
        "error",
    ),
    ("duration in range", "duration_ms", "range", {"min": 0, "max": 30000}, "warning"),
    ("source is a slug", "source", "regex", {"pattern": "^[a-z][a-z0-9-]*$"}, "error"),
    ("message not trivial", "message", "min_length", {"value": 3}, "warning"),
)

LEVELS = ("info",) * 60 + ("debug",) * 16 + ("warning",) * 14 + ("error",) * 8 + ("critical",) * 2
SOURCES: tuple[str | None, ...] = (
    "web",
    "worker",
    "scheduler",
    "importer",
    "gateway",
    "billing-sync",
    None,
    "",
)
REGIONS = ("north", "south", "east", "west")
MESSAGES = (
    "Request for item %d answered",
    "Payload of batch %d accepted",
    "Field 'total' of order %d is within its limits",
    "Record %d validated, all rules passed",
    "Cache refreshed for key group %d",
    "Retry of job %d succeeded",
    "Import of file %d finished",
    "Schema check of document %d done",
)
# Text that a careless export, import or page breaks on; all of it is legal.
AWKWARD = (
    "Größe überschritten – ID %d ✓",
    "名前の検証に失敗しました（%d）",
    "العنصر %d غير صالح",
    "Emoji 🚀👩‍💻 in payload %d",
    "Said \"no\" to 'field' %d",
    "Tab\tseparated\tvalue %d",
    "First line of %d\nsecond line\r\nthird line",
    "Path C:\\temp\\new\\%d ends with a backslash \\",
    "\\N",
    "\\.",
    "NULL",
    "",
    "  blanks around %d  ",
    "<script>alert(%d)</script> & <b>markup</b>",
    "'; DROP TABLE log_entries; -- %d",
    "100%% of {placeholders} ${left} alone in %d",
    "Combining e\u0301 and zero\u200bwidth in %d",
    "Separators \u2028 and \x1f in %d",
    '{"looks": "like JSON", "id": %d}',
    "a,b;c|d,%d",
)
DETAILS = (
    '{"client": {"region": "%s", "build": %d}, "sizes": [%d, %d], "ok": %s, '
    '"trace": "%016x", "note": "%s", "ratio": 0.%03d, "tags": ["sample", "batch-%d"], "extra": null}'
)
NOTES = (
    "checked on arrival",
    'quoted \\"text\\" inside',
    "back\\\\slash",
    "line\\nbreak",
    "gr\u00fc\u00dfe",
    "\u6e08",
    "escaped \\u00e9 and \\ud83d\\ude80",
    "",
)


def stamp(moment: datetime) -> str:
    """A date-time as SQLAlchemy stores it in SQLite."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def demo_password_hash() -> str:
    """The demo password in Werkzeug's scrypt format."""
    salt = "DemoSalt00000000"
    digest = hashlib.scrypt(
        DEMO_PASSWORD.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=132 * 2**15 * 8
    )
    return f"scrypt:32768:8:1${salt}${digest.hex()}"


def compact(value: Any) -> str:
    """JSON as the application stores it."""
    return json.dumps(value, ensure_ascii=True)


def user_rows(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    """The demo user, then users nobody can log in as."""
    yield (
        1,
        DEMO_EMAIL,
        "Demo user",
        demo_password_hash(),
        1,
        1,
        compact({"language": "en", "theme": "auto"}),
        stamp(START),
        None,
    )
    names = ("User %04d", "User %04d", "Usér %04d “ß”", "ユーザー %04d", 'User "%04d" O\'x')
    for number in range(2, USERS + 1):
        created = START + timedelta(seconds=rng.getrandbits(21))
        profile = None
        if number % 4:
            profile = compact(
                {"language": "en", "rows": 25 + number, "bio": "" if number % 3 else "…"}
            )
        yield (
            number,
            f"user{number:04d}@example.com",
            names[number % len(names)] % number,
            f"scrypt:32768:8:1${rng.getrandbits(64):016x}${rng.getrandbits(512):0128x}",
            int(number % 11 != 0),
            int(number % 7 != 0),
            profile,
            stamp(created),
            stamp(created + timedelta(seconds=rng.getrandbits(22))) if number % 3 else None,
        )


def app_rows(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    """Applications; only the first one has a known API key."""
    for number in range(1, APPS + 1):
        key = DEMO_API_KEY if number == 1 else f"{rng.getrandbits(256):064x}"
        created = START + timedelta(hours=number)
        yield (
            number,
            1 + (number - 1) % 5,
            APP_NAMES[number - 1],
            APP_DESCRIPTIONS[number - 1],
            ("production", "staging", "test")[number % 3],
            hashlib.sha256(key.encode()).hexdigest(),
            int(number != 10),
            (number * 37 % 1000) / 100,
            compact({"retention_days": 30 * number, "notify": number % 2 == 0, "owner_note": "…"}),
            stamp(created),
            stamp(created + timedelta(days=number)) if number % 2 else None,
        )


def rule_rows() -> Iterator[tuple[Any, ...]]:
    """The same six kinds of rules for every application."""
    number = 0
    for app_id in range(1, APPS + 1):
        for name, field, kind, params, severity in RULES:
            number += 1
            created = stamp(START + timedelta(hours=app_id, minutes=number))
            enabled = int(number % 13 != 0)
            yield number, app_id, name, field, kind, compact(params), severity, enabled, created


def otp_rows(rng: random.Random) -> Iterator[tuple[Any, ...]]:
    """Expired one-time codes, some used."""
    for number in range(1, OTPS + 1):
        created = START + timedelta(days=number, seconds=rng.getrandbits(15))
        yield (
            number,
            2 + number * 2,
            "verify_email",
            f"{rng.getrandbits(256):064x}",
            number % 6,
            stamp(created + timedelta(minutes=10)),
            stamp(created + timedelta(seconds=60 + number)) if number % 3 else None,
            stamp(created),
        )


def log_rows(count: int, rng: random.Random) -> Iterator[tuple[Any, ...]]:
    """Log entries in order of time, more of them by day than by night."""
    bits = rng.getrandbits
    span = DAYS * 86400.0
    swing = 0.7 / (2 * math.pi * DAYS)
    minute, prefix = -1, ""
    for number in range(1, count + 1):
        # One draw per row; the parts below take their bits from it.
        draw = bits(96)
        position = (number - 0.5) / count
        moment = (position - swing * math.sin(2 * math.pi * DAYS * position)) * span
        second = int(moment)
        if second // 60 != minute:
            minute = second // 60
            prefix = (START + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M:")
        created = f"{prefix}{second % 60:02d}.{int((moment - second) * 1e6):06d}"

        app_id = 1 + (draw & 0xFF) * (draw >> 8 & 0xFF) * APPS // 65536
        level = LEVELS[(draw >> 16 & 0x3FF) * 100 >> 10]
        if draw >> 26 & 0x1F:
            message = MESSAGES[draw >> 31 & 7] % number
        else:
            message = AWKWARD[(draw >> 31 & 0xFF) * len(AWKWARD) >> 8]
            if "%" in message:
                message %= number
        rule_id = None
        if (draw >> 39 & 0xFF) < 20:
            rule_id = (app_id - 1) * RULES_PER_APP + 1 + (draw >> 47 & 0xFF) % RULES_PER_APP
        picked = draw >> 55 & 0xFF
        if picked < 8:
            details: str | None = None
        elif picked < 12:
            details = "{}"
        else:
            details = DETAILS % (
                REGIONS[draw & 3],
                draw >> 2 & 0xFFF,
                draw >> 14 & 0xFFFF,
                draw >> 30 & 0xFFFFF,
                "true" if rule_id is None else "false",
                draw & 0xFFFFFFFFFFFFFFFF,
                NOTES[draw >> 63 & 7],
                draw >> 66 & 0x1FF,
                number >> 8,
            )
        spread = draw >> 70 & 0x3FF
        yield (
            number,
            app_id,
            1 + spread % USERS if spread & 1 else None,
            rule_id,
            level,
            message,
            SOURCES[draw >> 80 & 7],
            int(rule_id is None),
            None if spread < 40 else (spread * spread + (draw >> 83 & 0x1FFF)) / 1000,
            f"{draw >> 32:016x}" if spread & 2 else None,
            details,
            created,
        )


def write_database(path: Path, log_entries: int, seed: int) -> None:
    """Create the file at `path`, which must not exist."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # A half-written file is deleted, so the journal protects nothing here.
        connection.executescript(
            "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "PRAGMA cache_size=-65536; PRAGMA locking_mode=EXCLUSIVE;"
        )
        connection.execute("BEGIN")
        for statement in TABLES.split(";\n"):
            connection.execute(statement)
        rows: tuple[tuple[str, int, Iterator[tuple[Any, ...]]], ...] = (
            ("alembic_version", 1, iter([(REVISION,)])),
            ("users", 9, user_rows(random.Random(f"{seed}:users"))),
            ("apps", 11, app_rows(random.Random(f"{seed}:apps"))),
            ("otps", 8, otp_rows(random.Random(f"{seed}:otps"))),
            ("validation_rules", 9, rule_rows()),
            ("log_entries", 12, log_rows(log_entries, random.Random(f"{seed}:log_entries"))),
        )
        for table, columns, values in rows:
            marks = ", ".join("?" * columns)
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
        for statement in INDEXES.split(";\n"):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        connection.close()


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", metavar="OUTPUT.db", type=Path)
    parser.add_argument("--log-entries", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, default=42, metavar="N")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)
    if args.log_entries < 0:
        parser.error("--log-entries must not be negative")
    output: Path = args.output
    if output.exists() and not args.force:
        print(f"{output} exists; use --force to replace it", file=sys.stderr)
        return 1
    if not output.absolute().parent.is_dir():
        print(f"{output.absolute().parent} is not a directory", file=sys.stderr)
        return 1

    began = time.monotonic()
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        write_database(temporary, args.log_entries, args.seed)
        os.replace(temporary, output)
    except (OSError, sqlite3.Error) as error:
        print(f"cannot write {output}: {error}", file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    print(
        f"{output}: {args.log_entries} log entries, {output.stat().st_size / 1e6:.1f} MB, "
        f"{time.monotonic() - began:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
