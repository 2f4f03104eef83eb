"""Reads used by the pages and the API: one query each, most of them cached."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import func, select

from app.extensions import db
from app.models import App, LogEntry, Otp, User, ValidationRule, utcnow
from app.services.cache_service import APP_CONFIG_TTL, PROFILE_TTL, RULES_TTL, CacheService


def cache() -> CacheService:
    """The application's cache."""
    return current_app.extensions["cache"]


def iso(value: datetime | None) -> str | None:
    """UTC column value as ISO 8601."""
    return None if value is None else value.isoformat(timespec="milliseconds") + "Z"


def public_app(app: Mapping[str, Any]) -> dict[str, Any]:
    """An application without its configuration and key, as anyone may see it."""
    hidden = ("config", "api_key_hash", "owner_id")
    return {k: v for k, v in app.items() if k not in hidden}


_APP_COLUMNS = (
    App.id,
    App.owner_id,
    App.name,
    App.description,
    App.environment,
    App.api_key_hash,
    App.is_active,
    App.error_budget,
    App.config,
    App.created_at,
    App.updated_at,
)


def _app_dict(row: Any) -> dict[str, Any]:
    app = dict(row._mapping)
    app["created_at"] = iso(row.created_at)
    app["updated_at"] = iso(row.updated_at)
    return app


def list_apps() -> list[dict[str, Any]]:
    """All applications, public fields only."""

    def load() -> list[dict[str, Any]]:
        rows = db.session.execute(select(*_APP_COLUMNS).order_by(App.id))
        return [public_app(_app_dict(row)) for row in rows]

    return cache().get_or_set("apps", APP_CONFIG_TTL, load)


def get_app(app_id: int) -> dict[str, Any] | None:
    """One application with its configuration."""

    def load() -> dict[str, Any] | None:
        row = db.session.execute(select(*_APP_COLUMNS).where(App.id == app_id)).first()
        return _app_dict(row) if row else None

    return cache().get_or_set(f"app:{app_id}", APP_CONFIG_TTL, load)


def get_app_by_key_hash(key_hash: str) -> dict[str, Any] | None:
    """The application that an API key belongs to."""

    def load() -> dict[str, Any] | None:
        row = db.session.execute(select(*_APP_COLUMNS).where(App.api_key_hash == key_hash)).first()
        return _app_dict(row) if row else None

    return cache().get_or_set(f"app-key:{key_hash}", APP_CONFIG_TTL, load)


def list_rules(app_id: int | None) -> list[dict[str, Any]]:
    """The rules of one application, or all of them."""

    def load() -> list[dict[str, Any]]:
        query = select(
            ValidationRule.id,
            ValidationRule.app_id,
            ValidationRule.name,
            ValidationRule.field,
            ValidationRule.kind,
            ValidationRule.params,
            ValidationRule.severity,
            ValidationRule.is_enabled,
        ).order_by(ValidationRule.id)
        if app_id is not None:
            query = query.where(ValidationRule.app_id == app_id)
        return [dict(row._mapping) for row in db.session.execute(query)]

    return cache().get_or_set(f"rules:{app_id or 'all'}", RULES_TTL, load)


def get_profile(user_id: int) -> dict[str, Any] | None:
    """What the pages show of a user."""

    def load() -> dict[str, Any] | None:
        row = db.session.execute(
            select(User.id, User.email, User.name, User.profile).where(
                User.id == user_id, User.is_active, User.is_verified
            )
        ).first()
        return dict(row._mapping) if row else None

    return cache().get_or_set(f"profile:{user_id}", PROFILE_TTL, load)


def table_counts() -> dict[str, Any]:
    """Rows per table, all counted in one statement."""

    def load() -> dict[str, Any]:
        counts = [
            select(func.count()).select_from(model).scalar_subquery().label(model.__tablename__)
            for model in (User, App, ValidationRule, LogEntry, Otp)
        ]
        row = db.session.execute(select(*counts)).one()
        return {"counts": dict(row._mapping), "generated_at": iso(utcnow())}

    return cache().get_or_set("stats", current_app.config["STATS_CACHE_TTL"], load)


_LOG_COLUMNS = (
    LogEntry.id,
    LogEntry.app_id,
    App.name.label("app"),
    LogEntry.user_id,
    LogEntry.rule_id,
    LogEntry.level,
    LogEntry.message,
    LogEntry.source,
    LogEntry.is_valid,
    LogEntry.duration_ms,
    LogEntry.request_id,
    LogEntry.details,
    LogEntry.created_at,
)


def list_logs(
    limit: int,
    offset: int = 0,
    app_id: int | None = None,
    level: str | None = None,
    before_id: int | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Newest entries first with their application's name, and whether more follow."""
    query = (
        select(*_LOG_COLUMNS)
        .join(App, App.id == LogEntry.app_id)
        .order_by(LogEntry.id.desc())
        .limit(limit + 1)
        .offset(offset)
    )
    if app_id is not None:
        query = query.where(LogEntry.app_id == app_id)
    if level is not None:
        query = query.where(LogEntry.level == level)
    if before_id is not None:
        query = query.where(LogEntry.id < before_id)
    items = []
    for row in db.session.execute(query):
        item = dict(row._mapping)
        item["created_at"] = iso(row.created_at)
        items.append(item)
    return items[:limit], len(items) > limit
