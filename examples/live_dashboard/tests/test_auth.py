from __future__ import annotations

import re
from datetime import timedelta

import pytest
from conftest import PASSWORD
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.extensions import db
from app.models import Otp, User, utcnow
from app.security import safe_next

NEW = {"email": "new@example.com", "name": "New", "password": "long-enough-password"}


def register(client: FlaskClient) -> str:
    answer = client.post("/auth/register", json=NEW)
    assert answer.status_code == 201
    code = answer.get_json()["otp"]
    assert re.fullmatch(r"[0-9]{6}", code)
    return code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def test_register_verify_login_logout(client: FlaskClient) -> None:
    code = register(client)
    login = {"email": "NEW@example.com", "password": NEW["password"]}
    early = client.post("/auth/login", json=login)
    assert (early.status_code, early.get_json()["error"]) == (403, "not_verified")
    assert "otp" not in early.get_json()  # the first code is less than a minute old

    verified = client.post("/auth/verify", json={"email": NEW["email"], "code": code})
    assert verified.get_json() == {"email": NEW["email"], "verified": True}
    answer = client.post("/auth/login", json=login)
    assert answer.get_json()["user"]["name"] == "New"
    assert client.get("/api/logs").status_code == 200
    assert client.post("/auth/logout", json={}).get_json() == {"logged_out": True}
    assert client.get("/api/logs").status_code == 401


def test_code_is_stored_hashed_and_works_once(app: Flask, client: FlaskClient) -> None:
    code = register(client)
    with app.app_context():
        otp = db.session.scalars(select(Otp)).one()
        assert len(otp.code_hash) == 64 and code not in otp.code_hash
    body = {"email": NEW["email"], "code": code}
    assert client.post("/auth/verify", json=body).status_code == 200
    assert client.post("/auth/verify", json=body).status_code == 400


def test_attempts_are_limited(client: FlaskClient) -> None:
    code = register(client)
    for _ in range(5):
        body = {"email": NEW["email"], "code": wrong(code)}
        assert client.post("/auth/verify", json=body).status_code == 400
    answer = client.post("/auth/verify", json={"email": NEW["email"], "code": code})
    assert (answer.status_code, answer.get_json()["error"]) == (400, "invalid_code")


def test_expired_code_fails_and_login_sends_another(app: Flask, client: FlaskClient) -> None:
    code = register(client)
    with app.app_context():
        past = utcnow() - timedelta(hours=1)
        db.session.execute(update(Otp).values(expires_at=past, created_at=past))
        db.session.commit()
    body = {"email": NEW["email"], "code": code}
    assert client.post("/auth/verify", json=body).status_code == 400
    again = client.post("/auth/login", json={"email": NEW["email"], "password": NEW["password"]})
    assert again.status_code == 403
    body["code"] = again.get_json()["otp"]
    assert client.post("/auth/verify", json=body).status_code == 200


def test_no_echo_unless_asked_for(app: Flask, client: FlaskClient) -> None:
    app.config["OTP_ECHO"] = False
    sent = []

    class Recorder:
        def send(self, email: str, code: str) -> None:
            sent.append((email, code))

    app.extensions["otp_sender"] = Recorder()
    answer = client.post("/auth/register", json=NEW)
    assert "otp" not in answer.get_json()
    assert [email for email, _ in sent] == [NEW["email"]]
    assert sent[0][1] not in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "change",
    [
        {"email": "no-at-sign"},
        {"email": "a@b@c.example"},
        {"email": "x" * 250 + "@example.com"},
        {"email": 5},
        {"name": "  "},
        {"name": "x" * 121},
        {"name": "nul\x00"},
        {"password": "short"},
        {"password": None},
        {"password": "x" * 201},
        {"name": "\ud800"},
    ],
)
def test_register_refuses_bad_input(client: FlaskClient, change: dict[str, object]) -> None:
    answer = client.post("/auth/register", json={**NEW, **change})
    assert answer.status_code == 400
    assert answer.get_json()["error"] == "bad_request"


def test_register_refuses_a_known_address(client: FlaskClient) -> None:
    answer = client.post("/auth/register", json={**NEW, "email": "Reader@Example.com"})
    assert (answer.status_code, answer.get_json()["error"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("reader@example.com", "wrong-password"),
        ("nobody@example.com", PASSWORD),
        ("inactive@example.com", PASSWORD),
        ("reader@example.com", ""),
        ("reader@example.com", "x" * 5000),
    ],
)
def test_login_refuses(client: FlaskClient, email: str, password: str) -> None:
    answer = client.post("/auth/login", json={"email": email, "password": password})
    assert (answer.status_code, answer.get_json()["error"]) == (401, "invalid_credentials")


def test_forms_need_a_csrf_token(client: FlaskClient) -> None:
    data = {"email": "reader@example.com", "password": PASSWORD}
    assert client.post("/auth/login", data=data).status_code == 400
    assert client.post("/auth/login", data={**data, "csrf_token": "guess"}).status_code == 400


def token(client: FlaskClient, path: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).get_data(as_text=True))
    assert found
    return found[1]


def test_browser_flow_by_forms(app: Flask, client: FlaskClient) -> None:
    data = {**NEW, "csrf_token": token(client, "/auth/register")}
    codes: list[str] = []

    class Recorder:
        def send(self, email: str, code: str) -> None:
            codes.append(code)

    app.extensions["otp_sender"] = Recorder()
    answer = client.post("/auth/register", data=data)
    assert answer.headers["Location"] == "/auth/verify"
    page = client.get("/auth/verify").get_data(as_text=True)
    assert NEW["email"] in page
    form = {"email": NEW["email"], "csrf_token": token(client, "/auth/verify")}
    bad = client.post("/auth/verify", data={**form, "code": wrong(codes[0])})
    assert bad.status_code == 400 and "The code is wrong" in bad.get_data(as_text=True)
    assert client.post("/auth/verify", data={**form, "code": codes[0]}).status_code == 302

    login = {
        "email": NEW["email"],
        "password": NEW["password"],
        "next": "//elsewhere.example",
        "csrf_token": token(client, "/auth/login"),
    }
    answer = client.post("/auth/login", data=login)
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert "New" in client.get("/").get_data(as_text=True)
    assert client.post("/auth/logout", data={}).status_code == 400
    out = client.post("/auth/logout", data={"csrf_token": token(client, "/")})
    assert out.headers["Location"] == "/auth/login"
    assert client.get("/").status_code == 302


def test_next_stays_on_this_site(app: Flask) -> None:
    with app.test_request_context():
        assert safe_next("/api/apps?x=1") == "/api/apps?x=1"
        for target in (None, "", "//x.example", "https://x.example", "/\\x.example", "/a\nb"):
            assert safe_next(target) == "/"


def test_deactivated_user_loses_the_page(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        db.session.execute(update(User).values(is_active=False))
        db.session.commit()
    answer = reader.get("/")
    assert answer.headers["Location"] == "/auth/login"
