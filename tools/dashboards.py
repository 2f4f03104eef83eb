# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501
"""Grafana's dashboards from one table; python -m tools.dashboards writes them, --check compares."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "roles/monitoring/files/dashboards"
DISKS = '{fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*|nsfs"}'

# Each panel: title, unit as Grafana names it, and queries with their legends.
Panel = tuple[str, str, list[tuple[str, str]]]
RATE = (
    "Requests a second",
    "reqps",
    [("sum by (site) (rate(golive_http_requests_total[5m]))", "{{site}}")],
)
ERRORS = (
    "Errors",
    "percent",
    [
        (
            '100 * sum by (site) (rate(golive_http_requests_total{class="5xx"}[5m]))'
            " / sum by (site) (rate(golive_http_requests_total[5m]))",
            "{{site}}",
        )
    ],
)
TIMES = (
    "Response times",
    "s",
    [
        (
            f"histogram_quantile({quantile}, sum by (site, le)"
            " (rate(golive_http_request_seconds_bucket[5m])))",
            f"{name} {{{{site}}}}",
        )
        for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ],
)
CPU = (
    "Processors",
    "percent",
    [
        (
            '100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))',
            "{{instance}}",
        )
    ],
)
MEMORY = (
    "Memory",
    "percent",
    [("100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)", "{{instance}}")],
)
CONNECTIONS = (
    "Database connections",
    "percent",
    [
        (
            "100 * sum by (instance) (pg_stat_activity_count)"
            " / max by (instance) (pg_settings_max_connections)",
            "{{instance}}",
        )
    ],
)
HITS = (
    "Cache lookups",
    "ops",
    [
        ("sum by (server) (rate(redis_keyspace_hits_total[5m]))", "hits {{server}}"),
        ("sum by (server) (rate(redis_keyspace_misses_total[5m]))", "misses {{server}}"),
    ],
)

DASHBOARDS: dict[str, list[Panel]] = {
    "Overview": [
        RATE,
        ERRORS,
        TIMES,
        CPU,
        MEMORY,
        CONNECTIONS,
        HITS,
        ("Alerts that fire", "short", [('count by (severity) (ALERTS{alertstate="firing"})', "{{severity}}")]),
    ],
    "Health": [
        ("Targets that are read", "short", [("sum(up)", "read"), ("count(up)", "all")]),
        ("Sites", "short", [("probe_success", "{{site}} {{url}}")]),
        ("Health checks", "short", [("golive_health_up", "{{name}}")]),
        ("Time of the health checks", "s", [("golive_health_seconds", "{{name}}")]),
        (
            "Services",
            "short",
            [("pg_up", "PostgreSQL {{instance}}"), ("redis_up", "Redis {{server}}"), ("nginx_up", "nginx {{instance}}")],
        ),
        ("Time since the last check", "s", [("time() - golive_health_last_run_timestamp_seconds", "{{instance}}")]),
    ],
    "Alerts": [
        ("Alerts that fire", "short", [('count(ALERTS{alertstate="firing"})', "alerts")]),
        ("By severity", "short", [('count by (severity) (ALERTS{alertstate="firing"})', "{{severity}}")]),
        ("By name", "short", [('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}")]),
        ("Time since each began", "s", [("time() - ALERTS_FOR_STATE", "{{alertname}} {{instance}}")]),
        (
            "Messages sent",
            "short",
            [("sum by (integration) (increase(alertmanager_notifications_total[1h]))", "{{integration}}")],
        ),
        (
            "Messages that failed",
            "short",
            [("sum by (integration) (increase(alertmanager_notifications_failed_total[1h]))", "{{integration}}")],
        ),
    ],
    "PostgreSQL": [
        CONNECTIONS,
        ("Sessions", "short", [("golive_sessions_open", "open {{role}}"), ("golive_sessions_busy", "busy {{role}}")]),
        (
            "Transactions a second",
            "ops",
            [
                ("sum by (datname) (rate(pg_stat_database_xact_commit[5m]))", "commits {{datname}}"),
                ("sum by (datname) (rate(pg_stat_database_xact_rollback[5m]))", "rollbacks {{datname}}"),
            ],
        ),
        (
            "Reads from memory",
            "percent",
            [
                (
                    "100 * sum by (instance) (pg_stat_database_blks_hit)"
                    " / (sum by (instance) (pg_stat_database_blks_hit) + sum by (instance) (pg_stat_database_blks_read))",
                    "{{instance}}",
                )
            ],
        ),
        ("Size of the databases", "bytes", [("pg_database_size_bytes", "{{datname}}")]),
        ("Oldest transaction", "s", [("golive_transactions_oldest_seconds", "{{instance}}")]),
        ("Deadlocks", "short", [("sum by (datname) (increase(pg_stat_database_deadlocks[1h]))", "{{datname}}")]),
    ],
    "Redis": [
        HITS,
        ("Memory", "bytes", [("redis_memory_used_bytes", "used {{server}}"), ("redis_memory_max_bytes", "limit {{server}}")]),
        ("Clients", "short", [("redis_connected_clients", "{{server}}")]),
        ("Commands a second", "ops", [("rate(redis_commands_processed_total[5m])", "{{server}}")]),
        ("Evicted and expired keys", "ops", [
            ("rate(redis_evicted_keys_total[5m])", "evicted {{server}}"),
            ("rate(redis_expired_keys_total[5m])", "expired {{server}}"),
        ]),
    ],
    "nginx": [
        RATE,
        ("Answers by class", "reqps", [("sum by (class) (rate(golive_http_requests_total[5m]))", "{{class}}")]),
        TIMES,
        ("Connections", "short", [
            ("nginx_connections_active", "active {{instance}}"),
            ("nginx_connections_waiting", "waiting {{instance}}"),
        ]),
        ("Connections a second", "ops", [("rate(nginx_connections_accepted[5m])", "{{instance}}")]),
    ],
    "Gunicorn": [
        ("Worker failures", "short", [
            ("sum by (application, reason) (increase(golive_gunicorn_worker_failures_total[1h]))", "{{application}} {{reason}}")
        ]),
        ("Tracebacks", "short", [("increase(golive_application_tracebacks_total[1h])", "{{application}}")]),
        ("No connection to be had", "short", [("increase(golive_database_pool_errors_total[1h])", "{{application}}")]),
        ("Live release", "short", [("golive_release_info", "{{application}} {{release}} {{instance}}")]),
    ],
    "Hosts": [
        CPU,
        MEMORY,
        ("Load", "short", [("node_load1", "{{instance}}")]),
        ("Disks", "percent", [
            (f"100 * (1 - node_filesystem_avail_bytes{DISKS} / node_filesystem_size_bytes{DISKS})", "{{instance}} {{mountpoint}}")
        ]),
        ("Network", "Bps", [
            ('sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[5m]))', "in {{instance}}"),
            ('sum by (instance) (rate(node_network_transmit_bytes_total{device!="lo"}[5m]))', "out {{instance}}"),
        ]),
        ("Security updates", "short", [("golive_apt_security_updates", "{{instance}}")]),
        ("Certificates end in", "s", [("golive_certificate_expires_timestamp_seconds - time()", "{{path}}")]),
    ],
}  # fmt: skip
SOURCE = {"type": "prometheus", "uid": "golive"}


def dashboard(title: str, panels: list[Panel]) -> dict[str, Any]:
    made = []
    for number, (name, unit, queries) in enumerate(panels):
        made.append(
            {
                "id": number + 1,
                "title": name,
                "type": "timeseries",
                "datasource": SOURCE,
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {
                        "refId": chr(65 + at),
                        "datasource": SOURCE,
                        "expr": text,
                        "legendFormat": legend,
                    }
                    for at, (text, legend) in enumerate(queries)
                ],
            }
        )
    return {
        "uid": f"golive-{title.lower()}",
        "title": f"golive: {title}",
        "tags": ["golive"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": made,
    }


def files() -> dict[Path, str]:
    return {
        FOLDER / f"{title.lower()}.json": json.dumps(dashboard(title, panels), indent=2) + "\n"
        for title, panels in DASHBOARDS.items()
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of step")
    check = parser.parse_args(arguments).check
    wanted = files()
    stale = sorted(
        {path for path, text in wanted.items() if not path.is_file() or path.read_text() != text}
        | (set(FOLDER.glob("*.json")) - set(wanted))
    )
    for path in stale:
        print(f"{'out of step' if check else 'written'}: {path}")
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            if path in wanted:
                path.write_text(wanted[path])
            else:
                path.unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
