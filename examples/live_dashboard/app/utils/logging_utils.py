"""Logging as JSON lines that carry the request id."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from datetime import datetime, timezone
from typing import Any

from flask import Flask, Response, g, has_app_context, request
from sqlalchemy import Engine, event

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line; `extra=` values become keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if has_app_context() and "request_id" in g:
            line["request_id"] = g.request_id
        line.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def clean_request_id(raw: str | None) -> str:
    """The proxy's request id if it is harmless to log, else a new one."""
    if raw and _REQUEST_ID.fullmatch(raw):
        return raw
    return uuid.uuid4().hex


def configure_logging(level: str) -> None:
    """Send this application's logs to stderr as JSON lines."""
    logger = logging.getLogger("app")
    if not any(isinstance(h.formatter, JsonFormatter) for h in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level)


def _with_request_id(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    if has_app_context() and "request_id" in g:
        # At the beginning: a statement has many lines, and the log names the time on the first one.
        statement = f"/* request_id={g.request_id} */ {statement}"
    return statement, parameters


def name_statements(engine: Engine) -> None:
    """Let a statement in PostgreSQL's log, slow or refused, name the request that sent it."""
    event.listen(engine, "before_cursor_execute", _with_request_id, retval=True)


def init_request_logging(app: Flask) -> None:
    """Give every request an id, and log failures, slow requests or all of them."""
    logger = logging.getLogger("app.request")
    slow_ms = app.config["SLOW_REQUEST_MS"]
    log_all = app.config["LOG_REQUESTS"]

    @app.before_request
    def assign_request_id() -> None:
        g.request_id = clean_request_id(request.headers.get("X-Request-ID"))

    @app.after_request
    def log_request(response: Response) -> Response:
        request_id = g.get("request_id")
        if request_id is None:
            return response
        response.headers["X-Request-ID"] = request_id
        elapsed_ms = round((time.perf_counter() - g.started) * 1000, 1) if "started" in g else None
        slow = bool(slow_ms and elapsed_ms is not None and elapsed_ms >= slow_ms)
        if log_all or slow or response.status_code >= 500:
            logger.log(
                logging.WARNING if slow or response.status_code >= 500 else logging.INFO,
                "request",
                extra={
                    "method": request.method,
                    "path": request.path,
                    "status": response.status_code,
                    "elapsed_ms": elapsed_ms,
                    "client": request.remote_addr,
                },
            )
        return response
