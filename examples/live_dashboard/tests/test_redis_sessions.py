from __future__ import annotations

import pytest
from conftest import PASSWORD
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

LOGIN = {"email": "reader@example.com", "password": PASSWORD}


@pytest.fixture
def redis_url(real_redis_url: str) -> str:
    return real_redis_url


def session_keys(url: str) -> set[bytes]:
    with Redis.from_url(url) as raw:
        return set(raw.scan_iter(match="dashboard:session:*"))


def test_session_lives_in_redis(client: FlaskClient, redis_url: str) -> None:
    before = session_keys(redis_url)
    client.get("/auth/login")
    anonymous = session_keys(redis_url) - before
    answer = client.post("/auth/login", json=LOGIN)
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    logged_in = session_keys(redis_url) - before
    # A login gets a new id and the old one is gone: no session fixation.
    assert len(anonymous) == len(logged_in) == 1 and anonymous != logged_in
    assert client.get("/api/logs").status_code == 200
    client.post("/auth/logout", json={})
    assert session_keys(redis_url) == before
    assert client.get("/api/logs").status_code == 401


def test_login_survives_an_outage(app: Flask, reader: FlaskClient) -> None:
    interface = app.session_interface
    good = interface.client
    interface.client = Redis.from_url("redis://127.0.0.1:1/0")
    during = reader.get("/api/logs")
    assert (during.status_code, during.get_json()["error"]) == (503, "sessions_unavailable")
    assert "Set-Cookie" not in during.headers
    assert reader.get("/api/apps").status_code == 200
    login = reader.post("/auth/login", json=LOGIN)
    assert login.status_code == 503
    interface.client = good
    interface._guard._closed_until = 0.0
    assert reader.get("/api/logs").status_code == 200


def test_the_sessions_of_a_load_test_end_with_its_users(app: Flask, redis_url: str) -> None:
    reader, visitor = app.test_client(), app.test_client()
    reader.post("/auth/login", json=LOGIN)
    kept = session_keys(redis_url)
    user = {"email": "load-a@load-test.example", "name": "a", "password": PASSWORD}
    code = visitor.post("/auth/register", json=user).get_json()["otp"]
    visitor.post("/auth/verify", json={"email": user["email"], "code": code})
    visitor.post("/auth/login", json=user)
    assert len(session_keys(redis_url) - kept) == 1
    interface = app.session_interface
    good = interface.client
    interface.client = Redis.from_url("redis://127.0.0.1:1/0")
    refused = app.test_cli_runner().invoke(args=["purge-load-test"])
    assert refused.exit_code == 1 and "nothing was deleted" in refused.output
    interface.client = good
    interface._guard._closed_until = 0.0
    assert app.test_cli_runner().invoke(args=["purge-load-test"]).output == "1 deleted\n"
    assert session_keys(redis_url) == kept
    assert reader.get("/api/logs").status_code == 200
