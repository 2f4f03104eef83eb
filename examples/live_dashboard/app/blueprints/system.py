"""Health and metrics."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, jsonify
from sqlalchemy import select
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from app.extensions import db
from app.metrics import render_metrics
from app.models import User, utcnow
from app.services import queries

blueprint = Blueprint("system", __name__)
logger = logging.getLogger(__name__)


def database_state() -> str:
    """up, no_schema (it answers, but has no tables of ours) or down."""
    try:
        db.session.execute(select(1))
    except SQLAlchemyError as error:
        db.session.rollback()
        logger.error("health: database down", extra={"error": type(error).__name__})
        return "down"
    try:
        db.session.execute(select(User.id).limit(1))
    except DatabaseError as error:
        db.session.rollback()
        logger.error("health: schema missing", extra={"error": type(error).__name__})
        return "no_schema"
    return "up"


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """200 when usable (healthy or degraded), 503 when not."""
    database = database_state()
    cache = queries.cache().state()
    if database != "up":
        status = "unhealthy"
    elif cache == "down":
        status = "degraded"
    else:
        status = "healthy"
    body = jsonify(
        status=status,
        timestamp=queries.iso(utcnow()),
        database=database,
        database_backend=db.engine.dialect.name,
        cache=cache,
    )
    return body, 503 if status == "unhealthy" else 200


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus' text format; the proxy should keep it private."""
    return render_metrics()
