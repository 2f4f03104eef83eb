"""The JSON API."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request
from werkzeug.exceptions import BadRequest

from app.errors import ApiError, bad_request
from app.extensions import db
from app.metrics import LOG_ENTRIES
from app.models import LEVELS, LogEntry, utcnow
from app.security import current_user_id, hash_api_key, login_required, require_sessions
from app.services import queries
from app.services.text import storable_json, storable_text
from app.services.validation import broken_rules

blueprint = Blueprint("api", __name__, url_prefix="/api")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_ID = 2**31 - 1
MAX_BIG_ID = 2**63 - 1
MAX_MESSAGE = 10_000
MAX_DURATION_MS = 999_999_999.0
POST_FIELDS = frozenset(
    ("app_id", "level", "message", "source", "duration_ms", "request_id", "details")
)


def integer_arg(name: str, default: int | None, low: int, high: int) -> int | None:
    """A whole number from the query string, or a 400 that says what is allowed."""
    raw = request.args.get(name)
    if raw is None:
        return default
    # isascii, because int() takes other scripts' digits too.
    digits = raw.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        raise bad_request(f"{name} must be a whole number")
    value = int(raw)
    if not low <= value <= high:
        raise bad_request(f"{name} must be between {low} and {high}")
    return value


def page_args() -> tuple[int, int]:
    """limit and offset."""
    limit = integer_arg("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    offset = integer_arg("offset", 0, 0, MAX_ID)
    assert limit is not None and offset is not None
    return limit, offset


def level_arg() -> str | None:
    """One of the log levels, if given."""
    level = request.args.get("level")
    if level is not None and level not in LEVELS:
        raise bad_request(f"level must be one of {', '.join(LEVELS)}")
    return level


def existing_app(app_id: int) -> dict[str, Any]:
    """The application, or a 404."""
    app = queries.get_app(app_id) if 0 < app_id <= MAX_ID else None
    if app is None:
        raise ApiError(404, "not_found", "There is no such application")
    return app


def log_page(app_id: int | None) -> Response:
    """A page of log entries for the current query string."""
    limit, offset = page_args()
    items, more = queries.list_logs(
        limit,
        offset,
        app_id=app_id,
        level=level_arg(),
        before_id=integer_arg("before_id", None, 1, MAX_BIG_ID),
    )
    return jsonify(
        items=items,
        limit=limit,
        offset=offset,
        next_offset=offset + limit if more else None,
    )


@blueprint.get("/apps")
def apps() -> Response:
    """All applications; public, so a proxy may keep the answer."""
    response = jsonify(items=queries.list_apps())
    response.cache_control.public = True
    response.cache_control.max_age = 300
    return response


@blueprint.get("/apps/<int:app_id>")
@login_required
def app_detail(app_id: int) -> Response:
    """One application with its configuration."""
    app = existing_app(app_id)
    return jsonify({k: v for k, v in app.items() if k != "api_key_hash"})


@blueprint.get("/apps/<int:app_id>/logs")
@login_required
def app_logs(app_id: int) -> Response:
    """Log entries of one application."""
    existing_app(app_id)
    return log_page(app_id)


@blueprint.get("/logs")
@login_required
def logs() -> Response:
    """Log entries of all applications."""
    return log_page(integer_arg("app_id", None, 1, MAX_ID))


@blueprint.get("/rules")
@login_required
def rules() -> Response:
    """Validation rules."""
    limit, offset = page_args()
    app_id = integer_arg("app_id", None, 1, MAX_ID)
    found = queries.list_rules(app_id)
    more = len(found) > offset + limit
    return jsonify(
        items=found[offset : offset + limit],
        limit=limit,
        offset=offset,
        next_offset=offset + limit if more else None,
    )


@blueprint.get("/stats")
def stats() -> Response:
    """Rows per table."""
    return jsonify(queries.table_counts())


def _posting_app(payload: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The application to write to and the posting user, from API key or session."""
    app_id = payload.get("app_id")
    if app_id is not None and (isinstance(app_id, bool) or not isinstance(app_id, int)):
        raise bad_request("app_id must be a whole number")
    key = request.headers.get("X-API-Key")
    if key is not None:
        app = queries.get_app_by_key_hash(hash_api_key(key)) if len(key) <= 200 else None
        if app is None:
            raise ApiError(401, "unauthorized", "Unknown API key")
        if app_id is not None and app_id != app["id"]:
            raise ApiError(403, "forbidden", "This API key belongs to another application")
        user_id = None
    else:
        user_id = current_user_id()
        if user_id is None:
            require_sessions()
            raise ApiError(401, "unauthorized", "Log in or send X-API-Key")
        if app_id is None:
            raise bad_request("app_id is missing")
        app = existing_app(app_id)
    if not app["is_active"]:
        raise ApiError(403, "app_inactive", "This application is switched off")
    return app, user_id


def _optional_text(payload: dict[str, Any], name: str, longest: int) -> str | None:
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest or not storable_text(value):
        raise bad_request(f"{name} must be text of at most {longest} characters")
    return value


def _json_object() -> dict[str, Any]:
    if not request.is_json:
        raise ApiError(
            415, "unsupported_media_type", "Send JSON with Content-Type application/json"
        )
    try:
        payload = request.get_json()
    except (BadRequest, RecursionError):
        raise bad_request("The body is not valid JSON") from None
    if not isinstance(payload, dict):
        raise bad_request("The body must be a JSON object")
    return payload


def _parse_entry(payload: dict[str, Any]) -> dict[str, Any]:
    unknown = set(payload) - POST_FIELDS
    if unknown:
        raise bad_request(f"Unknown fields: {', '.join(sorted(map(ascii, unknown)))}")
    level = payload.get("level", "info")
    if level not in LEVELS:
        raise bad_request(f"level must be one of {', '.join(LEVELS)}")
    message = payload.get("message")
    if not isinstance(message, str):
        raise bad_request("message is missing or not text")
    if len(message) > MAX_MESSAGE or not storable_text(message):
        raise bad_request(f"message must be text of at most {MAX_MESSAGE} characters without NUL")
    duration = payload.get("duration_ms")
    if duration is not None:
        if isinstance(duration, bool) or not isinstance(duration, (int, float)):
            raise bad_request("duration_ms must be a number")
        if not 0 <= duration <= MAX_DURATION_MS:
            raise bad_request(f"duration_ms must be between 0 and {MAX_DURATION_MS:.0f}")
    details = payload.get("details")
    if details is not None and not (isinstance(details, dict) and storable_json(details)):
        raise bad_request("details must be a JSON object of storable values")
    return {
        "level": level,
        "message": message,
        "source": _optional_text(payload, "source", 120),
        "duration_ms": None if duration is None else round(float(duration), 3),
        "request_id": _optional_text(payload, "request_id", 64) or g.get("request_id"),
        "details": details,
    }


@blueprint.post("/logs")
def create_log() -> tuple[Response, int]:
    """Validate, store and publish one entry."""
    payload = _json_object()
    app, user_id = _posting_app(payload)
    values = _parse_entry(payload)
    broken = broken_rules(queries.list_rules(app["id"]), values)
    entry = LogEntry(
        app_id=app["id"],
        user_id=user_id,
        rule_id=broken[0]["id"] if broken else None,
        is_valid=not broken,
        created_at=utcnow(),
        **values,
    )
    db.session.add(entry)
    db.session.flush()
    stored = {
        "id": entry.id,
        "app_id": app["id"],
        "app": app["name"],
        "user_id": user_id,
        "rule_id": entry.rule_id,
        "is_valid": not broken,
        **values,
        "created_at": queries.iso(entry.created_at),
    }
    db.session.commit()
    LOG_ENTRIES.labels(values["level"], "no" if broken else "yes").inc()
    current_app.extensions["live"].emit_log(stored)
    violations = [
        {"rule_id": rule["id"], "rule": rule["name"], "severity": rule["severity"]}
        for rule in broken
    ]
    return jsonify({**stored, "violations": violations}), 201
