"""Registration, e-mail verification by one-time code, login and logout."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from flask import (
    Blueprint,
    current_app,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import BadRequest
from werkzeug.security import check_password_hash, generate_password_hash

from app.errors import ApiError, bad_request
from app.extensions import db
from app.models import User, utcnow
from app.security import require_sessions, safe_next, start_session
from app.services import queries
from app.services.otp_service import check_code, issue_code
from app.services.text import storable_text

blueprint = Blueprint("auth", __name__, url_prefix="/auth")

MIN_PASSWORD = 10
MAX_PASSWORD = 200
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


@lru_cache(maxsize=1)
def _dummy_hash() -> str:
    return generate_password_hash("no such user")


def _fields(*names: str) -> list[str]:
    """Text fields of the form or JSON body."""
    source: Any = request.form
    if request.is_json:
        try:
            source = request.get_json()
        except (BadRequest, RecursionError):
            raise bad_request("The body is not valid JSON") from None
        if not isinstance(source, dict):
            raise bad_request("The body must be a JSON object")
    values = []
    for name in names:
        value = source.get(name, "")
        if not isinstance(value, str) or not storable_text(value):
            raise bad_request(f"{name} must be text")
        values.append(value)
    return values


def _find_user(email: str) -> User | None:
    return db.session.scalar(select(User).where(User.email == email.strip().lower()))


def _echo(code: str | None) -> dict[str, str]:
    return {"otp": code} if code and current_app.config["OTP_ECHO"] else {}


def _page(template: str, **values: Any) -> str:
    return render_template(template, **values)


def _refuse(template: str, error: ApiError, **values: Any) -> ResponseReturnValue:
    """JSON clients get the error, browsers the form again with a message."""
    if request.is_json:
        raise error
    flash(error.message, "error")
    return _page(template, **values), error.status


@blueprint.get("/register")
def register_form() -> str:
    """The registration form."""
    return _page("register.html")


@blueprint.post("/register")
def register() -> ResponseReturnValue:
    """Create an unverified user and send a code."""
    email, name, password = _fields("email", "name", "password")
    email, name = email.strip().lower(), name.strip()
    problem = None
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        problem = "email is not a valid address"
    elif not 1 <= len(name) <= 120:
        problem = "name must have 1 to 120 characters"
    elif not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        problem = f"password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"
    if problem:
        return _refuse("register.html", bad_request(problem), email=email, name=name)
    user = User(email=email, name=name, password_hash=generate_password_hash(password))
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        error = ApiError(409, "conflict", "This address is already registered")
        return _refuse("register.html", error, email=email, name=name)
    code = issue_code(user)
    if request.is_json:
        return jsonify(email=email, verification="required", **_echo(code)), 201
    session["pending_email"] = email
    flash("We have sent you a code. Enter it below.", "info")
    return redirect(url_for("auth.verify_form"))


@blueprint.get("/verify")
def verify_form() -> str:
    """The form for the code."""
    return _page("verify.html", email=session.get("pending_email", ""))


@blueprint.post("/verify")
def verify() -> ResponseReturnValue:
    """Confirm the address with the code."""
    email, code = _fields("email", "code")
    user = _find_user(email)
    if user is None or user.is_verified or not check_code(user, code.strip()):
        error = ApiError(400, "invalid_code", "The code is wrong, used up or expired")
        return _refuse("verify.html", error, email=email)
    db.session.execute(update(User).where(User.id == user.id).values(is_verified=True))
    db.session.commit()
    queries.cache().delete(f"profile:{user.id}")
    if request.is_json:
        return jsonify(email=user.email, verified=True)
    session.pop("pending_email", None)
    flash("Your address is confirmed. Please log in.", "info")
    return redirect(url_for("auth.login"))


@blueprint.get("/login")
def login() -> str:
    """The login form."""
    return _page("login.html", next=request.args.get("next", ""))


@blueprint.post("/login")
def login_submit() -> ResponseReturnValue:
    """Start a session."""
    require_sessions()
    if queries.cache().state() == "down":
        # The login could not be stored; saying so beats a login that does not last.
        raise ApiError(503, "sessions_unavailable", "The session store does not answer.")
    email, password = _fields("email", "password")
    target = request.form.get("next", "")
    user = _find_user(email)
    # An unknown address costs the same time as a wrong password.
    stored = user.password_hash if user else _dummy_hash()
    right = len(password) <= MAX_PASSWORD and check_password_hash(stored, password)
    if user is None or not right or not user.is_active:
        error = ApiError(401, "invalid_credentials", "Address or password is wrong")
        return _refuse("login.html", error, email=email, next=target)
    if not user.is_verified:
        code = issue_code(user)
        if request.is_json:
            raise ApiError(403, "not_verified", "Confirm your address first", **_echo(code))
        session["pending_email"] = user.email
        flash("Please confirm your address first.", "info")
        return redirect(url_for("auth.verify_form"))
    user_id, user_email, user_name = user.id, user.email, user.name
    user.last_login_at = utcnow()
    db.session.commit()
    queries.cache().delete(f"profile:{user_id}")
    start_session(user_id)
    if request.is_json:
        return jsonify(user={"id": user_id, "email": user_email, "name": user_name})
    return redirect(safe_next(target))


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End the session."""
    require_sessions()
    session.clear()
    if request.is_json:
        return jsonify(logged_out=True)
    return redirect(url_for("auth.login"))
