"""Settings, all of them from the environment. See README.md for the table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
DEV_SECRET_KEY = "development-only-secret-key"


class ConfigError(RuntimeError):
    """An environment variable is missing or has an unusable value."""


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    raw = env.get(name, "").strip()
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ConfigError(f"{name} must be a whole number, not {raw!r}") from None
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low} and {high}, not {value}")
    return value


def _boolean(env: Mapping[str, str], name: str) -> bool:
    raw = env.get(name, "").strip().lower()
    if raw in ("", "0", "no", "false", "off"):
        return False
    if raw in ("1", "yes", "true", "on"):
        return True
    raise ConfigError(f"{name} must be 0 or 1, not {raw!r}")


def _database_url(env: Mapping[str, str]) -> str:
    url = env.get("DATABASE_URL", "").strip()
    if not url:
        instance = BASE_DIR / "instance"
        instance.mkdir(exist_ok=True)
        return f"sqlite:///{instance / 'validation_dashboard.db'}"
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg2://" + url[len(prefix) :]
    if url.startswith(("postgresql+psycopg2://", "sqlite:///")) or url == "sqlite://":
        return url
    raise ConfigError("DATABASE_URL must begin with postgresql://, postgres:// or sqlite:///")


def from_env(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Build the Flask configuration from environment variables."""
    env = os.environ if env is None else env
    url = _database_url(env)
    is_sqlite = url.startswith("sqlite")

    secret_key = env.get("SECRET_KEY", "")
    if not secret_key:
        if not is_sqlite:
            raise ConfigError("SECRET_KEY must be set when DATABASE_URL is PostgreSQL")
        secret_key = DEV_SECRET_KEY
    elif secret_key == DEV_SECRET_KEY and not is_sqlite:
        raise ConfigError("SECRET_KEY is the development default, which PostgreSQL refuses")

    engine_options: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": 3600}
    if url not in ("sqlite://", "sqlite:///:memory:"):
        engine_options["pool_size"] = _integer(env, "DB_POOL_SIZE", 5, 1, 200)
        engine_options["max_overflow"] = _integer(env, "DB_MAX_OVERFLOW", 0, 0, 200)
        engine_options["pool_timeout"] = _integer(env, "DB_POOL_TIMEOUT", 10, 1, 300)
    if not is_sqlite:
        engine_options["connect_args"] = {
            "connect_timeout": 5,
            "application_name": "live_dashboard",
        }

    redis_url = env.get("REDIS_URL", "").strip() or None
    if redis_url and not redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError("REDIS_URL must begin with redis://, rediss:// or unix://")

    otp_sender = env.get("OTP_SENDER", "").strip() or "log"
    if otp_sender not in ("log", "console"):
        raise ConfigError("OTP_SENDER must be log or console")

    return {
        "SECRET_KEY": secret_key,
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options,
        "REDIS_URL": redis_url,
        "SESSION_COOKIE_NAME": "dashboard_session",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": _boolean(env, "SESSION_COOKIE_SECURE"),
        "SESSION_REFRESH_EACH_REQUEST": False,
        "PERMANENT_SESSION_LIFETIME": timedelta(
            hours=_integer(env, "SESSION_LIFETIME_HOURS", 12, 1, 720)
        ),
        "MAX_CONTENT_LENGTH": 64 * 1024,
        "TRUSTED_PROXIES": _integer(env, "TRUSTED_PROXIES", 0, 0, 10),
        "LIVE_MAX_CLIENTS": _integer(env, "LIVE_MAX_CLIENTS", 4, 0, 1000),
        "STATS_CACHE_TTL": _integer(env, "STATS_CACHE_TTL", 5, 0, 3600),
        "SLOW_REQUEST_MS": _integer(env, "SLOW_REQUEST_MS", 1000, 0, 600_000),
        "LOG_REQUESTS": _boolean(env, "LOG_REQUESTS"),
        "LOG_LEVEL": env.get("LOG_LEVEL", "").strip().upper() or "INFO",
        "OTP_SENDER": otp_sender,
        "OTP_ECHO": _boolean(env, "OTP_ECHO"),
        "OTP_TTL_SECONDS": _integer(env, "OTP_TTL_SECONDS", 600, 30, 86_400),
        "OTP_MAX_ATTEMPTS": _integer(env, "OTP_MAX_ATTEMPTS", 5, 1, 100),
        "OTP_RESEND_SECONDS": _integer(env, "OTP_RESEND_SECONDS", 60, 0, 3600),
    }
