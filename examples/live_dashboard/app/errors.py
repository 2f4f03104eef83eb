"""Errors as JSON for the API and as a plain page for browsers."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from app.extensions import db

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An expected failure with a status, a stable code and a readable message."""

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra


def bad_request(message: str) -> ApiError:
    """A 400 answer."""
    return ApiError(400, "bad_request", message)


def wants_json() -> bool:
    """True for the API and for clients that speak JSON."""
    if request.path.startswith(("/api/", "/health", "/metrics")) or request.is_json:
        return True
    accept = request.accept_mimetypes
    return accept.best_match(["text/html", "application/json"]) == "application/json"


def error_response(status: int, code: str, message: str, **extra: Any) -> Response:
    """An error in the form the client understands."""
    if wants_json():
        body = {"error": code, "message": message, "request_id": g.get("request_id"), **extra}
        response = jsonify(body)
    else:
        response = make_response(render_template("error.html", status=status, message=message))
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response


def init_errors(app: Flask) -> None:
    """Register the handlers."""

    @app.errorhandler(ApiError)
    def on_api_error(error: ApiError) -> Response:
        return error_response(error.status, error.code, error.message, **error.extra)

    @app.errorhandler(HTTPException)
    def on_http_error(error: HTTPException) -> Response:
        code = error.name.lower().replace(" ", "_")
        response = error_response(error.code or 500, code, error.description or error.name)
        if error.response is None and error.code == 405:
            response.headers.extend(
                [(k, v) for k, v in error.get_headers() if k.lower() == "allow"]
            )
        return response

    @app.errorhandler(OperationalError)
    @app.errorhandler(InterfaceError)
    @app.errorhandler(PoolTimeout)
    def on_database_gone(error: Exception) -> Response:
        logger.error("database unavailable", extra={"error": type(error).__name__}, exc_info=error)
        db.session.rollback()
        return error_response(
            503, "database_unavailable", "The database does not answer. Please try again."
        )

    @app.errorhandler(Exception)
    def on_unexpected(error: Exception) -> Response:
        logger.error("unhandled error", exc_info=error)
        return error_response(500, "internal_error", "Something went wrong on our side.")
