"""Fixtures. Servers are used only when TEST_DATABASE_URL or TEST_REDIS_URL is set."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import downgrade, upgrade
from redis import Redis
from sqlalchemy import text
from werkzeug.security import generate_password_hash
from werkzeug.serving import make_server

from app import create_app
from app.extensions import db
from app.models import App, LogEntry, User, ValidationRule
from app.security import hash_api_key

PASSWORD = "a-good-password"
API_KEY = "key-of-the-first-application"
PASSWORD_HASH = generate_password_hash(PASSWORD)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("TEST_DATABASE_URL is not set")
    return url


@pytest.fixture
def redis_url() -> str | None:
    return None


@pytest.fixture(scope="session")
def migrated() -> Iterator[dict[str, Flask]]:
    """Applications whose database has the schema, by its URL; at the end the migrations go back."""
    apps: dict[str, Flask] = {}
    yield apps
    for app in apps.values():
        with app.app_context():
            downgrade(revision="base")
            db.engine.dispose()


def migrate(url: str, apps: dict[str, Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the schema to an empty database, once in a session."""
    if url not in apps:
        monkeypatch.setenv("DATABASE_URL", url)
        app = apps[url] = create_app()
        with app.app_context():
            upgrade()
            db.engine.dispose()


@pytest.fixture
def app(
    database_url: str,
    redis_url: str | None,
    migrated: dict[str, Flask],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Flask]:
    for name in ("TRUSTED_PROXIES", "OTP_SENDER", "OTP_RESEND_SECONDS", "LIVE_MAX_CLIENTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRET_KEY", "key-of-the-tests")
    monkeypatch.setenv("OTP_ECHO", "1")
    monkeypatch.setenv("STATS_CACHE_TTL", "0")
    monkeypatch.setenv("REDIS_URL", redis_url or "")
    file = database_url.removeprefix("sqlite:///")
    if file != database_url:
        template = tmp_path_factory.getbasetemp() / "migrated.db"
        migrate(f"sqlite:///{template}", migrated, monkeypatch)
        shutil.copyfile(template, file)
    else:
        migrate(database_url, migrated, monkeypatch)
    monkeypatch.setenv("DATABASE_URL", database_url)
    app = create_app()
    with app.app_context():
        seed()
        app.extensions["cache"].clear()
    yield app
    with app.app_context():
        db.session.remove()
        if file == database_url:
            names = ", ".join(f'"{table.name}"' for table in db.metadata.sorted_tables)
            db.session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
            db.session.commit()
            db.session.remove()
        db.engine.dispose()


def seed() -> None:
    """Two users, two applications, four rules and 120 entries."""
    users = [
        User(
            email=f"{name}@example.com",
            name=name.title(),
            password_hash=PASSWORD_HASH,
            is_active=name != "inactive",
            is_verified=True,
        )
        for name in ("reader", "inactive")
    ]
    db.session.add_all(users)
    db.session.flush()
    apps = [
        App(
            owner_id=users[0].id, name="First", api_key_hash=hash_api_key(API_KEY), config={"a": 1}
        ),
        App(owner_id=users[0].id, name="Second", api_key_hash=hash_api_key("off"), is_active=False),
    ]
    db.session.add_all(apps)
    db.session.flush()
    first = apps[0].id
    rules: list[tuple[str, str, str, dict[str, Any]]] = [
        ("present", "message", "required", {}),
        ("short", "message", "max_length", {"value": 20}),
        ("fast", "duration_ms", "range", {"min": 0, "max": 100}),
        ("region", "details.region", "one_of", {"values": ["north", "south"]}),
    ]
    for name, field, kind, params in rules:
        db.session.add(
            ValidationRule(app_id=first, name=name, field=field, kind=kind, params=params)
        )
    for number in range(120):
        db.session.add(
            LogEntry(
                app_id=apps[number % 2].id,
                level="error" if number % 10 == 0 else "info",
                message=f"entry {number}",
                is_valid=True,
                duration_ms=number + 0.125,
                details={"number": number} if number % 3 else None,
            )
        )
    db.session.commit()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def reader(client: FlaskClient) -> FlaskClient:
    answer = client.post("/auth/login", json={"email": "reader@example.com", "password": PASSWORD})
    assert answer.status_code == 200
    return client


@pytest.fixture
def real_redis_url() -> Iterator[str]:
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        pytest.skip("TEST_REDIS_URL is not set")
    yield url
    client = Redis.from_url(url)
    for key in client.scan_iter(match="dashboard:*"):
        client.delete(key)
    client.close()


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The application on a local port; yields host:port."""
    running = make_server("127.0.0.1", 0, app, threaded=True)
    running.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{running.server_port}"
    app.extensions["live"].close_all()
    running.shutdown()
    thread.join(5)
