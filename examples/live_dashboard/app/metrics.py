"""Prometheus metrics; summed over workers when PROMETHEUS_MULTIPROC_DIR is set."""

from __future__ import annotations

import os
import time
from typing import Any

# prometheus_client chooses its storage while it is imported, and fails later
# if the directory is missing.
_MULTIPROC_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if _MULTIPROC_DIR:
    os.makedirs(_MULTIPROC_DIR, exist_ok=True)

from flask import Flask, Response, g, got_request_exception, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import Engine, event

REQUESTS = Counter("dashboard_requests_total", "HTTP requests", ["method", "endpoint", "status"])
LATENCY = Histogram(
    "dashboard_request_seconds",
    "HTTP request latency",
    ["method", "endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ERRORS = Counter("dashboard_errors_total", "Unhandled errors", ["type"])
DB_POOL_SIZE = Gauge(
    "dashboard_db_pool_size", "Configured connections per pool", multiprocess_mode="livesum"
)
DB_POOL_OPEN = Gauge(
    "dashboard_db_pool_open", "Open database connections", multiprocess_mode="livesum"
)
DB_POOL_IN_USE = Gauge(
    "dashboard_db_pool_in_use", "Database connections in use", multiprocess_mode="livesum"
)
CACHE_OPERATIONS = Counter(
    "dashboard_cache_operations_total", "Cache operations", ["operation", "result"]
)
REDIS_ERRORS = Counter("dashboard_redis_errors_total", "Failed Redis operations", ["operation"])
LOG_ENTRIES = Counter("dashboard_log_entries_total", "Log entries accepted", ["level", "valid"])
LIVE_CLIENTS = Gauge(
    "dashboard_live_clients", "Open WebSocket clients", multiprocess_mode="livesum"
)
LIVE_REFUSED = Counter("dashboard_live_refused_total", "Refused WebSocket clients", ["reason"])

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def render_metrics() -> Response:
    """All metrics in Prometheus' text format."""
    registry = REGISTRY
    if _MULTIPROC_DIR:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def watch_pool(engine: Engine) -> None:
    """Keep the pool gauges current; events are exact where polling would be late."""
    size = getattr(engine.pool, "size", None)

    def on_connect(*_: Any) -> None:
        DB_POOL_OPEN.inc()
        DB_POOL_SIZE.set(size() if callable(size) else 1)

    # A checkout that fails on a dead server is followed by a checkin without
    # a checkout; the mark keeps the gauge from falling below zero.
    def on_checkout(_connection: Any, record: Any, _proxy: Any) -> None:
        record.record_info["counted"] = True
        DB_POOL_IN_USE.inc()

    def on_checkin(_connection: Any, record: Any) -> None:
        if record.record_info.pop("counted", False):
            DB_POOL_IN_USE.dec()

    event.listen(engine, "connect", on_connect)
    event.listen(engine.pool, "close", lambda *_: DB_POOL_OPEN.dec())
    event.listen(engine, "checkout", on_checkout)
    event.listen(engine, "checkin", on_checkin)


def init_metrics(app: Flask) -> None:
    """Count and time every request of the application."""

    @app.before_request
    def start_timer() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def observe(response: Response) -> Response:
        method = request.method if request.method in _METHODS else "OTHER"
        endpoint = request.url_rule.rule if request.url_rule else "unmatched"
        REQUESTS.labels(method, endpoint, str(response.status_code)).inc()
        if "started" in g:
            LATENCY.labels(method, endpoint).observe(time.perf_counter() - g.started)
        return response

    def count_error(sender: Flask, exception: BaseException, **_: Any) -> None:
        ERRORS.labels(type(exception).__name__).inc()

    got_request_exception.connect(count_error, app, weak=False)
