"""Login state, CSRF tokens, API keys and response headers."""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import (
    Flask,
    Response,
    current_app,
    flash,
    redirect,
    request,
    session,
    url_for,
)

from app.errors import ApiError, wants_json
from app.services.sessions import session_unavailable

F = TypeVar("F", bound=Callable[..., Any])

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def hash_api_key(key: str) -> str:
    """Keys are long random strings, so a plain digest is enough to store them."""
    return hashlib.sha256(key.encode()).hexdigest()


def csrf_token() -> str:
    """This session's token, made on first use."""
    token = session.get("csrf")
    if not isinstance(token, str):
        token = session["csrf"] = secrets.token_urlsafe(32)
    return token


def check_csrf() -> None:
    """Demand the token on form posts.

    JSON needs none: a foreign page can't send that content type without a
    CORS permission, which this application never gives.
    """
    if request.method in ("GET", "HEAD", "OPTIONS") or request.is_json:
        return
    if request.url_rule is None:  # nothing to protect: a 404 or 405 follows
        return
    if request.blueprint == "api":
        raise ApiError(
            415, "unsupported_media_type", "Send JSON with Content-Type application/json"
        )
    require_sessions()
    sent = request.form.get("csrf_token", "")
    expected = session.get("csrf", "")
    if not expected or not hmac.compare_digest(sent.encode(), expected.encode()):
        raise ApiError(400, "csrf", "The form has expired. Reload the page and try again.")


def require_sessions() -> None:
    """Tell "not logged in" from "the session store is down"."""
    if session_unavailable():
        raise ApiError(503, "sessions_unavailable", "The session store does not answer.")


def current_user_id() -> int | None:
    """The logged-in user's id, if any."""
    value = session.get("user_id")
    return value if isinstance(value, int) else None


def login_required(view: F) -> F:
    """Let only logged-in users in; browsers are sent to the login page."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if current_user_id() is None:
            require_sessions()
            if wants_json():
                raise ApiError(401, "unauthorized", "Log in first")
            flash("Please log in to continue.", "info")
            return redirect(url_for("auth.login", next=request.full_path.rstrip("?")))
        return view(*args, **kwargs)

    return cast(F, wrapper)


def start_session(user_id: int) -> None:
    """Begin a login with a new session id and token, against session fixation."""
    session.clear()
    regenerate = getattr(current_app.session_interface, "regenerate", None)
    session["user_id"] = user_id
    session["csrf"] = secrets.token_urlsafe(32)
    session.permanent = True
    if regenerate is not None:
        regenerate(session)


def safe_next(target: str | None) -> str:
    """Only a path on this site, never another host."""
    if (
        target
        and target.startswith("/")
        and not target.startswith("//")
        and "\\" not in target
        and target.isprintable()
    ):
        return target
    return url_for("dashboard.index")


def init_security(app: Flask) -> None:
    """Register the CSRF check and the response headers."""
    app.before_request(check_csrf)
    app.jinja_env.globals["csrf_token"] = csrf_token

    @app.after_request
    def add_headers(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Referrer-Policy", "same-origin")
        if request.endpoint != "static":
            headers.setdefault("Cache-Control", "no-store")
        return response
