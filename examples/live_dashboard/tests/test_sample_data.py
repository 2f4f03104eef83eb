from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from flask_migrate import upgrade

from app import create_app

SCRIPT = Path(__file__).resolve().parent.parent / "sample_data.py"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.db"
    done = run("--log-entries", 5000, "--seed", 42, path)
    assert done.returncode == 0, done.stderr
    return path


def schema(path: Path) -> dict[str, object]:
    """Everything SQLite knows of the tables, without the layout of the DDL text."""
    with closing(sqlite3.connect(path)) as db:
        tables = [
            row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found: dict[str, object] = {}
        for table in tables:
            indexes = {}
            for index in db.execute(f"PRAGMA index_list({table})").fetchall():
                columns = db.execute(f"PRAGMA index_xinfo({index[1]})").fetchall()
                indexes[index[1]] = (index[2:], columns)
            found[table] = {
                "columns": db.execute(f"PRAGMA table_info({table})").fetchall(),
                "foreign keys": sorted(db.execute(f"PRAGMA foreign_key_list({table})").fetchall()),
                "indexes": indexes,
            }
        for name, kind, sql in db.execute("SELECT name, type, sql FROM sqlite_master"):
            found[f"{kind} {name}"] = sql and "".join(sql.split())
        version = db.execute("SELECT * FROM alembic_version").fetchall()
        return {"version": version, **found}


def test_schema_is_what_the_migrations_make(
    sample: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = tmp_path / "alembic.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{made}")
    monkeypatch.setenv("REDIS_URL", "")
    with create_app().app_context():
        upgrade()
    expected = schema(made)
    assert {"users", "apps", "otps", "validation_rules", "log_entries"} < set(expected)
    assert schema(sample) == expected


def test_counts_integrity_and_awkward_text(sample: Path) -> None:
    with closing(sqlite3.connect(sample)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = ("users", "apps", "validation_rules", "otps", "log_entries")
        counts = [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]
        assert counts == [50, 10, 60, 20, 5000]
        messages = {row[0] for row in db.execute("SELECT message FROM log_entries")}
        assert {"\\N", "\\.", "", "NULL"} <= messages
        text = "".join(messages)
        assert all(piece in text for piece in "\t\n\r\\'\"🚀ßع名\u2028")
        sources = {row[0] for row in db.execute("SELECT source FROM log_entries")}
        assert {None, ""} <= sources
        details = [row[0] for row in db.execute("SELECT details FROM log_entries")]
        assert None in details
        present = [value for value in details if value is not None]
        assert all(isinstance(json.loads(value), dict) for value in present)
        assert 150 < sum(map(len, present)) / len(present) < 250
        times = [row[0] for row in db.execute("SELECT created_at FROM log_entries ORDER BY id")]
        assert times == sorted(times) and len(set(times)) == 5000


def test_same_seed_same_file_other_seed_other_rows(sample: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.db", tmp_path / "other.db"
    run("--log-entries", 5000, "--seed", 42, again)
    run("--log-entries", 5000, "--seed", 43, other)
    digest = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (sample, again, other)]
    assert digest[0] == digest[1] != digest[2]


def test_refuses_to_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("precious")
    refused = run("--log-entries", 10, path)
    assert refused.returncode == 1 and "--force" in refused.stderr
    assert path.read_text() == "precious"
    assert run("--log-entries", 10, "--force", path).returncode == 0
    assert path.read_bytes().startswith(b"SQLite format 3\0")
    assert [p.name for p in tmp_path.iterdir()] == ["x.db"]
    assert run(tmp_path / "missing" / "x.db").returncode == 1
    assert run("--log-entries", -1, tmp_path / "y.db").returncode == 2


def test_demo_login_works_and_is_documented(
    sample: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = run("--help").stdout
    for value in ("demo@example.com", "demo-password-2025", "demo-api-key-0001"):
        assert value in shown
    copy = tmp_path / "copy.db"
    copy.write_bytes(sample.read_bytes())
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{copy}")
    monkeypatch.setenv("REDIS_URL", "")
    client = create_app().test_client()
    credentials = {"email": "demo@example.com", "password": "demo-password-2025"}
    assert client.post("/auth/login", json=credentials).status_code == 200
    assert client.get("/").status_code == 200
    page = client.get("/api/logs?limit=500").get_json()
    assert len(page["items"]) == 500
    key = {"X-API-Key": "demo-api-key-0001"}
    made = client.post("/api/logs", json={"message": "hello", "source": "web"}, headers=key)
    assert made.status_code == 201 and made.get_json()["is_valid"] is True
    assert made.get_json()["id"] == 5001
