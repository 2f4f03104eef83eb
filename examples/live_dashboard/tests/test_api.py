from __future__ import annotations

import json

import pytest
from conftest import API_KEY
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select

from app.extensions import db
from app.models import App, LogEntry
from app.services.validation import violates

KEY = {"X-API-Key": API_KEY}


def first_app(app: Flask) -> int:
    with app.app_context():
        found = db.session.scalar(select(App.id).where(App.name == "First"))
    assert found
    return found


def test_apps_are_public_cacheable_and_hide_secrets(client: FlaskClient) -> None:
    answer = client.get("/api/apps")
    assert answer.status_code == 200
    assert answer.cache_control.max_age == 300 and answer.cache_control.public
    assert "Set-Cookie" not in answer.headers and "Cookie" not in answer.headers.get("Vary", "")
    items = answer.get_json()["items"]
    assert [item["name"] for item in items] == ["First", "Second"]
    assert not {"api_key_hash", "config", "owner_id"} & set(items[0])


def test_stats_count_every_table(client: FlaskClient) -> None:
    counts = client.get("/api/stats").get_json()["counts"]
    assert counts == {
        "users": 2,
        "apps": 2,
        "validation_rules": 4,
        "log_entries": 120,
        "otps": 0,
    }


@pytest.mark.parametrize("path", ["/api/apps/1", "/api/apps/1/logs", "/api/logs", "/api/rules"])
def test_reading_needs_a_login(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.get_json()["error"]) == (401, "unauthorized")


def test_app_detail(app: Flask, reader: FlaskClient) -> None:
    body = reader.get(f"/api/apps/{first_app(app)}").get_json()
    assert body["config"] == {"a": 1} and "api_key_hash" not in body
    assert reader.get("/api/apps/999999").status_code == 404
    assert reader.get("/api/apps/99999999999999999999999").status_code == 404
    assert reader.get("/api/apps/99999999999999999999999/logs").status_code == 404
    assert reader.get("/api/apps/x").get_json()["error"] == "not_found"


def test_logs_default_page(reader: FlaskClient) -> None:
    body = reader.get("/api/logs").get_json()
    assert len(body["items"]) == body["limit"] == body["next_offset"] == 50
    ids = [item["id"] for item in body["items"]]
    assert ids == sorted(ids, reverse=True)
    newest = body["items"][0]
    assert newest["message"] == "entry 119"
    assert newest["app"] == "Second" and newest["duration_ms"] == 119.125
    assert newest["details"] == {"number": 119}
    assert newest["created_at"].endswith("Z")


def test_offset_and_keyset_pages_see_every_entry_once(reader: FlaskClient) -> None:
    seen: list[int] = []
    offset: int | None = 0
    while offset is not None:
        body = reader.get(f"/api/logs?limit=33&offset={offset}").get_json()
        seen += [item["id"] for item in body["items"]]
        offset = body["next_offset"]
    assert len(seen) == len(set(seen)) == 120

    keyset: list[int] = []
    query = ""
    while page := reader.get(f"/api/logs?limit=33{query}").get_json()["items"]:
        keyset += [item["id"] for item in page]
        query = f"&before_id={keyset[-1]}"
    assert keyset == seen


def test_log_filters(app: Flask, reader: FlaskClient) -> None:
    number = first_app(app)
    by_app = reader.get(f"/api/apps/{number}/logs?limit=500").get_json()
    assert len(by_app["items"]) == 60 and by_app["next_offset"] is None
    same = reader.get(f"/api/logs?app_id={number}&limit=500").get_json()
    assert same["items"] == by_app["items"]
    errors = reader.get("/api/logs?level=error&limit=500").get_json()["items"]
    assert len(errors) == 12 and {item["level"] for item in errors} == {"error"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=ten",
        "limit=",
        "limit=1e3",
        "limit=%D9%A3",
        "offset=-1",
        "offset=99999999999",
        "offset=99999999999999999999999999",
        "level=loud",
        "level=%00",
        "app_id=0",
        "before_id=0",
        "before_id=x",
    ],
)
def test_bad_paging_is_a_clear_400(reader: FlaskClient, query: str) -> None:
    answer = reader.get(f"/api/logs?{query}")
    assert answer.status_code == 400
    body = answer.get_json()
    assert body["error"] == "bad_request"
    assert query.split("=")[0] in body["message"]


def test_rules(app: Flask, reader: FlaskClient) -> None:
    body = reader.get("/api/rules?limit=3").get_json()
    assert [rule["name"] for rule in body["items"]] == ["present", "short", "fast"]
    assert body["next_offset"] == 3
    rest = reader.get("/api/rules?limit=3&offset=3").get_json()
    assert [rule["name"] for rule in rest["items"]] == ["region"] and rest["next_offset"] is None
    assert reader.get(f"/api/rules?app_id={first_app(app) + 1}").get_json()["items"] == []


def test_list_needs_one_query(app: Flask, reader: FlaskClient) -> None:
    statements: list[str] = []
    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert len(reader.get("/api/logs?limit=100").get_json()["items"]) == 100
    assert len(statements) == 1


def test_cached_reads_need_no_query(app: Flask, reader: FlaskClient) -> None:
    paths = ["/api/apps", "/api/rules", f"/api/apps/{first_app(app)}"]
    before = [reader.get(path).get_json() for path in paths]
    statements: list[str] = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert [reader.get(path).get_json() for path in paths] == before
    assert statements == []


def test_post_with_key_validates_and_stores(app: Flask, client: FlaskClient) -> None:
    sent: list[dict[str, object]] = []
    app.extensions["live"].emit_log = sent.append
    good = {
        "message": "naïve ✓ \\N \t",
        "level": "warning",
        "duration_ms": 12.3456,
        "details": {"region": "north", "deep": [1, {"x": None}]},
    }
    answer = client.post("/api/logs", json=good, headers={**KEY, "X-Request-ID": "abc-1"})
    assert answer.status_code == 201
    body = answer.get_json()
    assert body["is_valid"] is True and body["violations"] == []
    assert body["duration_ms"] == 12.346 and body["request_id"] == "abc-1"
    with app.app_context():
        stored = db.session.get(LogEntry, body["id"])
        assert stored is not None
        assert stored.message == good["message"] and stored.details == good["details"]
        assert stored.user_id is None
    assert [entry["id"] for entry in sent] == [body["id"]]
    assert "violations" not in sent[0]


def test_post_reports_broken_rules_and_still_stores(app: Flask, client: FlaskClient) -> None:
    bad = {"message": "x" * 21, "duration_ms": 101, "details": {"region": "west"}}
    body = client.post("/api/logs", json=bad, headers=KEY).get_json()
    assert [v["rule"] for v in body["violations"]] == ["short", "fast", "region"]
    assert body["is_valid"] is False and body["rule_id"] == body["violations"][0]["rule_id"]
    empty = client.post("/api/logs", json={"message": ""}, headers=KEY).get_json()
    assert [v["rule"] for v in empty["violations"]] == ["present"]
    with app.app_context():
        invalid = select(func.count()).where(LogEntry.is_valid.is_(False))
        assert db.session.scalar(invalid) == 2


def test_post_with_session(app: Flask, reader: FlaskClient) -> None:
    number = first_app(app)
    answer = reader.post("/api/logs", json={"app_id": number, "message": "by hand"})
    assert answer.status_code == 201 and answer.get_json()["user_id"]
    assert reader.post("/api/logs", json={"message": "no app"}).status_code == 400
    assert reader.post("/api/logs", json={"app_id": 999999, "message": "m"}).status_code == 404
    assert reader.post("/api/logs", json={"app_id": True, "message": "m"}).status_code == 400
    off = reader.post("/api/logs", json={"app_id": number + 1, "message": "m"})
    assert (off.status_code, off.get_json()["error"]) == (403, "app_inactive")


def test_post_authentication(app: Flask, client: FlaskClient) -> None:
    body = {"message": "m"}
    assert client.post("/api/logs", json=body).status_code == 401
    for key in ("wrong", "", "x" * 10_000):
        assert client.post("/api/logs", json=body, headers={"X-API-Key": key}).status_code == 401
    other = {"message": "m", "app_id": first_app(app) + 1}
    assert client.post("/api/logs", json=other, headers=KEY).status_code == 403
    assert client.post("/api/logs", data=body, headers=KEY).status_code == 415
    assert client.post("/api/logs", data=body).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"text"',
        "[" * 60_000,
        "{}",
        '{"message": 5}',
        '{"message": null}',
        '{"message": "nul \\u0000"}',
        '{"message": "lone \\ud800"}',
        '{"message": "m", "level": "loud"}',
        '{"message": "m", "level": ["info"]}',
        '{"message": "m", "duration_ms": "1"}',
        '{"message": "m", "duration_ms": true}',
        '{"message": "m", "duration_ms": -1}',
        '{"message": "m", "duration_ms": NaN}',
        '{"message": "m", "duration_ms": Infinity}',
        '{"message": "m", "duration_ms": 1e300}',
        '{"message": "m", "details": []}',
        '{"message": "m", "details": {"a": NaN}}',
        '{"message": "m", "details": {"a": ["\\u0000"]}}',
        '{"message": "m", "details": {"\\ud800": 1}}',
        '{"message": "m", "details": {"a": ' + "[" * 50 + "]" * 50 + "}}",
        '{"message": "m", "source": 1}',
        '{"message": "m", "source": "' + "x" * 121 + '"}',
        '{"message": "m", "app_id": "1"}',
        '{"message": "m", "is_valid": true}',
        '{"message": "' + "x" * 10_001 + '"}',
    ],
)
def test_post_refuses_bad_bodies(app: Flask, client: FlaskClient, body: str) -> None:
    answer = client.post("/api/logs", data=body, content_type="application/json", headers=KEY)
    assert answer.status_code == 400
    assert answer.get_json()["error"] == "bad_request" and answer.get_json()["message"]
    with app.app_context():
        assert db.session.scalar(select(func.count(LogEntry.id))) == 120


def test_post_refuses_huge_bodies(client: FlaskClient) -> None:
    body = json.dumps({"message": "m", "details": {"a": "x" * 70_000}})
    answer = client.post("/api/logs", data=body, content_type="application/json", headers=KEY)
    assert answer.status_code == 413 and answer.get_json()["error"]


@pytest.mark.parametrize(
    ("kind", "params", "value", "expected"),
    [
        ("required", {}, None, True),
        ("required", {}, 0, False),
        ("regex", {"pattern": "^[a-z]+$"}, "abc", False),
        ("regex", {"pattern": "^[a-z]+$"}, "ABC", True),
        ("regex", {"pattern": "("}, "abc", True),
        ("min_length", {"value": 3}, "ab", True),
        ("min_length", {"value": 2}, [1, 2], False),
        ("max_length", {}, "ab", True),
        ("one_of", {"values": [1]}, 2, True),
        ("range", {"min": 1}, 0, True),
        ("range", {"max": 1}, 1, False),
        ("range", {"min": 1}, "text", True),
        ("max_length", {"value": 1}, None, False),
        ("unknown kind", {}, "x", True),
    ],
)
def test_rule_kinds(kind: str, params: dict[str, object], value: object, expected: bool) -> None:
    rule = {"field": "a.b", "kind": kind, "params": params}
    assert violates(rule, {"a": {"b": value}}) is expected


def test_errors_are_json_with_the_request_id(client: FlaskClient) -> None:
    answer = client.get("/api/nothing", headers={"X-Request-ID": "id-77"})
    assert answer.status_code == 404
    assert answer.get_json()["request_id"] == answer.headers["X-Request-ID"] == "id-77"
    assert client.delete("/api/apps").headers["Allow"]
    odd = client.get("/api/stats", headers={"X-Request-ID": "spaces and\ttabs"})
    assert len(odd.headers["X-Request-ID"]) == 32
