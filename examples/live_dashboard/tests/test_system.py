from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import API_KEY, PASSWORD
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app import create_app
from app.extensions import db
from app.models import App, Otp, User, utcnow
from app.utils.logging_utils import JsonFormatter
from config.config import ConfigError, from_env

POSTGRES = {"DATABASE_URL": "postgresql://u:p@localhost/d", "SECRET_KEY": "s" * 32}


def test_healthy(client: FlaskClient) -> None:
    answer = client.get("/health")
    body = answer.get_json()
    assert answer.status_code == 200
    assert (body["status"], body["database"], body["cache"]) == ("healthy", "up", "disabled")
    moment = datetime.fromisoformat(body["timestamp"].removesuffix("Z"))
    assert abs(moment - utcnow()) < timedelta(seconds=10)
    assert answer.headers["Cache-Control"] == "no-store"


def test_health_without_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'empty.db'}")
    monkeypatch.setenv("REDIS_URL", "")
    answer = create_app().test_client().get("/health")
    assert answer.status_code == 503
    assert answer.get_json()["database"] == "no_schema"


def test_health_and_api_without_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'missing' / 'x.db'}")
    monkeypatch.setenv("REDIS_URL", "")
    client = create_app().test_client()
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.get_json()["status"] == "unhealthy" and answer.get_json()["database"] == "down"
    for path in ("/api/apps", "/api/stats"):
        failed = client.get(path)
        assert (failed.status_code, failed.get_json()["error"]) == (503, "database_unavailable")
        assert failed.headers["Retry-After"]
        assert "x.db" not in failed.get_data(as_text=True)


def test_postgres_down_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    monkeypatch.setenv("SECRET_KEY", "s" * 32)
    monkeypatch.setenv("REDIS_URL", "")
    answer = create_app().test_client().get("/health")
    assert answer.status_code == 503 and "secret" not in answer.get_data(as_text=True)


def test_redis_down_is_degraded_and_requests_go_on(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    client = create_app().test_client()
    answer = client.get("/health")
    assert answer.status_code == 200
    assert (answer.get_json()["status"], answer.get_json()["cache"]) == ("degraded", "down")
    assert len(client.get("/api/apps").get_json()["items"]) == 2
    key = {"X-API-Key": "key-of-the-first-application"}
    assert client.post("/api/logs", json={"message": "m"}, headers=key).status_code == 201
    assert client.get("/api/logs").status_code == 401
    login = {"email": "reader@example.com", "password": "a-good-password"}
    assert client.post("/auth/login", json=login).status_code == 503
    # Whether this visitor is logged in can't be known now, which is not "logged out".
    client.set_cookie("dashboard_session", "some-session-id")
    refused = client.get("/api/logs")
    assert (refused.status_code, refused.get_json()["error"]) == (503, "sessions_unavailable")
    metrics = client.get("/metrics").get_data(as_text=True)
    assert "dashboard_redis_errors_total{operation=" in metrics


def test_metrics(reader: FlaskClient) -> None:
    reader.get("/api/logs")
    reader.get("/nowhere/hidden-path")
    body = reader.get("/metrics").get_data(as_text=True)
    assert 'dashboard_requests_total{endpoint="/api/logs",method="GET",status="200"}' in body
    assert 'endpoint="unmatched"' in body and "hidden-path" not in body
    for name in ("request_seconds_bucket", "db_pool_in_use", "db_pool_size", "live_clients"):
        assert f"dashboard_{name}" in body


def test_unhandled_error_is_logged_and_counted(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("app.services.queries.list_apps", fail)
    answer = client.get("/api/apps")
    assert answer.status_code == 500 and answer.get_json()["error"] == "internal_error"
    assert "secret detail" not in answer.get_data(as_text=True)


def test_database_error_in_a_request_is_503(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OperationalError("SELECT secret", {}, Exception("gone"))

    monkeypatch.setattr("app.services.queries.table_counts", fail)
    answer = client.get("/api/stats")
    assert answer.status_code == 503 and "secret" not in answer.get_data(as_text=True)


def test_page(reader: FlaskClient) -> None:
    answer = reader.get("/")
    page = answer.get_data(as_text=True)
    assert page.count("<tr data-id=") == 25 and "entry 119" in page
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert " style=" not in page and "<style" not in page and "onclick" not in page
    assert page.count("<script") == page.count('<script src="/static/')
    for name in ("live.js", "dashboard.js", "style.css", "icon.svg"):
        assert reader.get(f"/static/{name}").status_code == 200


def test_page_needs_a_login(client: FlaskClient) -> None:
    answer = client.get("/?a=1")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/auth/login?next=/?a%3D1"
    assert client.get(answer.headers["Location"]).status_code == 200


def test_page_escapes_messages(client: FlaskClient, reader: FlaskClient) -> None:
    markup = "<script>x</script>"
    key = {"X-API-Key": "key-of-the-first-application"}
    assert client.post("/api/logs", json={"message": markup}, headers=key).status_code == 201
    page = reader.get("/").get_data(as_text=True)
    assert markup not in page and "&lt;script&gt;x" in page


def test_foreign_keys_are_enforced(app: Flask) -> None:
    with app.app_context():
        db.session.add(App(owner_id=4711, name="x", api_key_hash="x"))
        with pytest.raises(IntegrityError):
            db.session.commit()
        db.session.rollback()


def test_deleting_an_app_deletes_its_rules_and_entries(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("DELETE FROM apps WHERE name = 'First'"))
        db.session.commit()
        counts = text("SELECT (SELECT count(*) FROM validation_rules), count(*) FROM log_entries")
        assert tuple(db.session.execute(counts).one()) == (0, 60)


def test_proxy_headers_count_only_when_trusted(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}

    def seen(built: Flask) -> tuple[Any, bool]:
        result: list[tuple[Any, bool]] = []
        from flask import request

        built.before_request(lambda: result.append((request.remote_addr, request.is_secure)))
        built.test_client().get("/health", headers=headers)
        return result[0]

    assert seen(create_app()) == ("127.0.0.1", False)
    monkeypatch.setenv("TRUSTED_PROXIES", "1")
    assert seen(create_app()) == ("192.0.2.7", True)


def test_commands(app: Flask) -> None:
    runner = app.test_cli_runner()
    made = runner.invoke(args=["create-app", "Third", "--owner", "reader@example.com"])
    key = made.output.strip()
    posted = app.test_client().post("/api/logs", json={"message": "m"}, headers={"X-API-Key": key})
    assert posted.get_json()["app"] == "Third"
    again = runner.invoke(args=["create-app", "Third", "--owner", "reader@example.com"])
    assert again.exit_code == 1 and "already" in again.output
    with app.app_context():
        user = db.session.query(User).first()
        assert user is not None
        old = utcnow() - timedelta(days=30)
        db.session.add(Otp(user_id=user.id, purpose="x", code_hash="x", expires_at=old))
        db.session.commit()
    assert runner.invoke(args=["purge-otps"]).output == "1 deleted\n"


def test_what_a_load_test_registered_is_deleted_and_nothing_else(
    app: Flask, client: FlaskClient
) -> None:
    for name in ("one", "two"):
        user = {"email": f"load-{name}@load-test.example", "name": name, "password": PASSWORD}
        code = client.post("/auth/register", json=user).get_json()["otp"]
        client.post("/auth/verify", json={"email": user["email"], "code": code})
    assert client.post("/auth/login", json=user).status_code == 200
    assert client.get("/").status_code == 200
    assert client.post("/api/logs", json={"message": "m", "app_id": 1}).status_code == 201
    client.post("/auth/register", json={**user, "email": "load-one@example.com"})
    runner = app.test_cli_runner()
    runner.invoke(args=["create-app", "Theirs", "--owner", user["email"]])
    before = client.get("/api/stats").get_json()["counts"]
    assert runner.invoke(args=["purge-load-test"]).output == "2 deleted\n"
    after = client.get("/api/stats").get_json()["counts"]
    gone = {name: rows - after[name] for name, rows in before.items()}
    assert {name: rows for name, rows in gone.items() if rows} == {
        "users": 2, "otps": 2, "log_entries": 1, "apps": 1,
    }  # fmt: skip
    assert runner.invoke(args=["purge-load-test"]).output == "0 deleted\n"


def test_log_lines_are_json(app: Flask) -> None:
    record = logging.makeLogRecord({"msg": 'said "hi" %s\n', "args": ("é",), "answer": 42})
    with app.test_request_context(headers={"X-Request-ID": "r-1"}):
        app.preprocess_request()
        line = JsonFormatter().format(record)
    parsed = json.loads(line)
    assert "\n" not in line
    assert parsed["message"] == 'said "hi" é\n' and parsed["answer"] == 42
    assert parsed["request_id"] == "r-1"


def test_config_defaults_and_urls() -> None:
    config = from_env({"DATABASE_URL": "sqlite:///x.db"})
    options = config["SQLALCHEMY_ENGINE_OPTIONS"]
    assert (options["pool_size"], options["max_overflow"]) == (5, 0)
    assert options["pool_recycle"] == 3600 and options["pool_pre_ping"] is True
    assert config["REDIS_URL"] is None and config["TRUSTED_PROXIES"] == 0
    for prefix in ("postgres://", "postgresql://"):
        found = from_env({**POSTGRES, "DATABASE_URL": prefix + "u:p%40@h/d"})
        assert found["SQLALCHEMY_DATABASE_URI"] == "postgresql+psycopg2://u:p%40@h/d"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"DATABASE_URL": POSTGRES["DATABASE_URL"]}, "SECRET_KEY must be set"),
        ({**POSTGRES, "SECRET_KEY": "development-only-secret-key"}, "development default"),
        ({"DATABASE_URL": "oracle://x"}, "DATABASE_URL"),
        ({**POSTGRES, "DB_POOL_SIZE": "many"}, "DB_POOL_SIZE must be a whole number"),
        ({**POSTGRES, "DB_POOL_SIZE": "0"}, "between 1 and"),
        ({**POSTGRES, "REDIS_URL": "localhost"}, "REDIS_URL"),
        ({**POSTGRES, "OTP_ECHO": "perhaps"}, "OTP_ECHO"),
        ({**POSTGRES, "OTP_SENDER": "pigeon"}, "OTP_SENDER"),
    ],
)
def test_config_errors_name_the_variable(env: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_env(env)


def test_statements_name_their_request(app: Flask, client: FlaskClient) -> None:
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        pytest.skip("SQLite has no log")
    with app.app_context():
        engine = db.engine
    statements: list[str] = []
    event.listen(engine, "after_cursor_execute", lambda *args: statements.append(args[2]))
    client.get("/api/stats", headers={"X-API-Key": API_KEY, "X-Request-ID": "id-78"})
    assert statements and all(s.startswith("/* request_id=id-78 */ ") for s in statements)
