"""Live Validation Dashboard. Serve it as `app:create_app()`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask
from sqlalchemy import event
from werkzeug.middleware.proxy_fix import ProxyFix

from app.cli import init_cli
from app.errors import init_errors
from app.extensions import db, migrate
from app.live import Live, LiveGate
from app.metrics import init_metrics, watch_pool
from app.security import init_security
from app.services.cache_service import CacheService
from app.services.otp_service import make_sender
from app.services.redis_guard import RedisGuard, make_client
from app.services.sessions import GuardedRedisSessions
from app.utils.logging_utils import configure_logging, init_request_logging, name_statements
from config.config import BASE_DIR, from_env

__all__ = ["create_app"]


def _enforce_foreign_keys(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Build the application from the environment; it connects to nothing yet."""
    app = Flask(__name__)
    app.config.from_mapping(from_env())
    app.config.from_mapping(overrides or {})
    app.json.sort_keys = False  # type: ignore[attr-defined]
    configure_logging(app.config["LOG_LEVEL"])

    db.init_app(app)
    migrate.init_app(app, db, directory=str(BASE_DIR / "migrations"), compare_type=True)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", _enforce_foreign_keys)
        else:
            name_statements(db.engine)
        watch_pool(db.engine)

    guard = RedisGuard()
    redis_url = app.config["REDIS_URL"]
    client = make_client(redis_url) if redis_url else None
    app.extensions["cache"] = CacheService(client, guard)
    if client is not None:
        app.session_interface = GuardedRedisSessions(app, client, guard)
    app.extensions["otp_sender"] = make_sender(app.config["OTP_SENDER"])
    if app.config["OTP_ECHO"]:
        logging.getLogger(__name__).warning("OTP_ECHO is on: one-time codes are in the answers")

    # The id comes first, so that everything later can log it.
    init_request_logging(app)
    init_metrics(app)
    init_errors(app)
    init_security(app)
    init_cli(app)

    from app.blueprints import api, auth, dashboard, system

    for blueprint in (api.blueprint, auth.blueprint, dashboard.blueprint, system.blueprint):
        app.register_blueprint(blueprint)

    live = Live(app, client, guard)
    app.extensions["live"] = live
    app.wsgi_app = LiveGate(app.wsgi_app, app, live)  # type: ignore[method-assign]
    proxies = app.config["TRUSTED_PROXIES"]
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies
        )
    return app
