# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501
"""For each alert one host that it fires for and one that it doesn't, as promtool's tests take them.

A case is the alert's labels, a minute, and series of one value a minute: those for which it fires
at that minute, and those for which it doesn't. From 20 hours on they are of one value an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Series = dict[str, str]
LONG = 250


@dataclass(frozen=True)
class Case:
    labels: dict[str, str]
    minute: int
    fires: Series
    quiet: Series


def case(name: str, severity: str, minute: int, fires: Series, quiet: Series, **more: str) -> Case:
    return Case({"alertname": name, "severity": severity, **more}, minute, fires, quiet)


def rise(by: float, count: int = LONG) -> str:
    return f"0+{by}x{count}"


def stay(value: float, count: int = LONG) -> str:
    return f"{value}+0x{count}"


def requests(errors: float, good: float = 10000) -> Series:
    """Errors and other answers a minute."""
    return {
        'golive_http_requests_total{site="shop",class="5xx",instance="a"}': rise(errors),
        'golive_http_requests_total{site="shop",class="2xx",instance="a"}': rise(good),
    }


def times(bucket: str, count: int = 100) -> Series:
    """All answers within one bucket of the histogram."""
    bounds = ["0.1", "0.2", "0.3", "0.5", "1", "2.5", "+Inf"]
    told: Series = dict(requests(0, count))
    for bound in bounds:
        inside = bounds.index(bound) >= bounds.index(bucket)
        name = f'golive_http_request_seconds_bucket{{site="shop",le="{bound}"}}'
        told[name] = rise(count if inside else 0)
    return told


def one(name: str, high: float, low: float) -> tuple[Series, Series]:
    return {name: stay(high)}, {name: stay(low)}


def both(first: str, second: str, high: float, low: float, whole: float) -> tuple[Series, Series]:
    return {first: stay(high), second: stay(whole)}, {first: stay(low), second: stay(whole)}


def disk(free: float) -> Series:
    where = '{instance="a",mountpoint="/",device="/dev/vda1",fstype="ext4"}'
    return {
        f"node_filesystem_avail_bytes{where}": stay(free),
        f"node_filesystem_size_bytes{where}": stay(100),
    }


def filling(by: float) -> Series:
    where = '{instance="a",mountpoint="/",device="/dev/vda1",fstype="ext4"}'
    return {
        f"node_filesystem_avail_bytes{where}": f"30000-{by}x{LONG}",
        f"node_filesystem_size_bytes{where}": stay(100000),
    }


def cpu(idle: float) -> Series:
    return {
        'node_cpu_seconds_total{instance="a",cpu="0",mode="idle"}': rise(60 * idle),
        'node_cpu_seconds_total{instance="a",cpu="0",mode="user"}': rise(60 - 60 * idle),
    }


def cache(hits: float, misses: float) -> Series:
    return {
        'redis_keyspace_hits_total{instance="a",server="main"}': rise(hits),
        'redis_keyspace_misses_total{instance="a",server="main"}': rise(misses),
    }


def age(name: str) -> Series:
    """Something that happened at the time 0, against the minute at which it is looked at."""
    return {name: stay(0)}


NOTHING: Series = {'up{job="node",instance="a"}': stay(1)}
WORKERS = 'golive_gunicorn_worker_failures_total{instance="a",application="shop",reason="killed"}'
BACKUP = "golive_backup_last_success_timestamp_seconds"
HOUR = 60
DAY = 24 * HOUR

CASES = [
    case("ErrorBudgetBurns", "critical", 70, requests(200), requests(100), window="1h"),
    case("ErrorBudgetBurns", "critical", 70, requests(80), requests(40), window="6h"),
    case("ErrorBudgetBurns", "warning", 70, requests(40), requests(20), window="1d"),
    case("ErrorBudgetBurns", "warning", 70, requests(20), requests(5), window="3d"),
    # Five errors among six requests are no rate.
    case("ErrorRateHigh", "warning", 20, requests(2, 98), requests(1, 1)),
    case("ErrorRateHigh", "critical", 20, requests(10, 90), requests(2, 98)),
    case("ErrorRateExtreme", "critical", 20, requests(30, 70), requests(10, 90)),
    case("LatencyP95High", "warning", 20, times("0.3"), times("0.2")),
    case("LatencyP95High", "critical", 20, times("0.5"), times("0.3")),
    case("LatencyP99High", "warning", 20, times("1"), times("0.5")),
    case("LatencyP99High", "critical", 20, times("2.5"), times("1")),
    case("SiteDown", "critical", 5, *one('probe_success{job="site",site="shop",instance="a"}', 0, 1)),
    case("HealthCheckFailed", "critical", 5, *one('golive_health_up{name="shop",site="shop",instance="a"}', 0, 1)),
    case("HealthCheckStale", "warning", 21,
         age('golive_health_last_run_timestamp_seconds{instance="a"}'),
         {'golive_health_last_run_timestamp_seconds{instance="a"}': stay(1200)}),
    case("MaintenanceMode", "info", 5, *one('golive_maintenance{site="shop",instance="a"}', 1, 0)),
    case("HostDown", "critical", 5, *one('up{job="node",instance="a"}', 0, 1)),
    case("ExporterDown", "warning", 8, *one('up{job="nginx",instance="a"}', 0, 1)),
    case("CpuHigh", "warning", 25, cpu(0.15), cpu(0.25)),
    case("CpuHigh", "critical", 25, cpu(0.03), cpu(0.15)),
    case("MemoryHigh", "warning", 10, *both('node_memory_MemAvailable_bytes{instance="a"}',
         'node_memory_MemTotal_bytes{instance="a"}', 15, 25, 100)),
    case("MemoryHigh", "critical", 10, *both('node_memory_MemAvailable_bytes{instance="a"}',
         'node_memory_MemTotal_bytes{instance="a"}', 3, 15, 100)),
    case("OutOfMemory", "warning", 8, {'node_vmstat_oom_kill{instance="a"}': "0 0 0 1+0x20"},
         {'node_vmstat_oom_kill{instance="a"}': stay(7)}),
    case("DiskFull", "warning", 10, disk(10), disk(20)),
    case("DiskFull", "critical", 10, disk(3), disk(10)),
    case("DiskFills", "warning", 60, filling(50), filling(10)),
    case("DiskFills", "critical", 60, filling(200), filling(50)),
    case("InodesLow", "warning", 10, *both(
         'node_filesystem_files_free{instance="a",mountpoint="/",fstype="ext4"}',
         'node_filesystem_files{instance="a",mountpoint="/",fstype="ext4"}', 5, 15, 100)),
    case("UnitFailed", "warning", 5,
         {'node_systemd_unit_state{instance="a",name="shop.service",state="failed"}': stay(1)},
         {'node_systemd_unit_state{instance="a",name="golive-health.service",state="failed"}': stay(1)}),
    case("MetricsStale", "warning", 20,
         age('node_textfile_mtime_seconds{instance="a",file="/x/golive_host.prom"}'),
         {'node_textfile_mtime_seconds{instance="a",file="/x/golive_host.prom"}': stay(1000)}),
    case("SecurityUpdatesPending", "warning", 3 * DAY + HOUR,
         {'golive_apt_security_updates{instance="a"}': stay(2)},
         {'golive_apt_security_updates{instance="a"}': stay(0)}),
    case("RebootRequired", "info", DAY + HOUR, {'golive_reboot_required{instance="a"}': stay(1)},
         {'golive_reboot_required{instance="a"}': stay(0)}),
    case("PostgresDown", "critical", 5, *one('pg_up{instance="a"}', 0, 1)),
    case("DatabaseConnectionsHigh", "warning", 5, *both('pg_stat_activity_count{instance="a"}',
         'pg_settings_max_connections{instance="a"}', 85, 75, 100)),
    case("DatabaseConnectionsHigh", "critical", 5, *both('pg_stat_activity_count{instance="a"}',
         'pg_settings_max_connections{instance="a"}', 95, 85, 100)),
    case("DatabasePoolBusy", "warning", 5, *one('golive_sessions_busy{instance="a",role="shop"}', 15, 13)),
    # The first one of all is a rise too.
    case("DatabasePoolExhausted", "critical", 20,
         {'golive_database_pool_errors_total{instance="a",application="shop"}': "_x15 1+0x20"},
         {'golive_database_pool_errors_total{instance="a",application="shop"}': stay(3)}),
    case("TransactionLong", "warning", 5, *one('golive_transactions_oldest_seconds{instance="a"}', 901, 899)),
    case("ReplicationLag", "warning", 5, *one('golive_replication_lag_seconds{instance="a",replica="b"}', 2, 0.5)),
    case("ReplicationLag", "critical", 5, *one('golive_replication_lag_seconds{instance="a",replica="b"}', 31, 29)),
    case("RedisDown", "critical", 5, *one('redis_up{instance="a",server="main"}', 0, 1)),
    case("CacheHitRatioLow", "warning", 60, cache(60, 40), cache(80, 20)),
    case("RedisRefusesConnections", "warning", 10,
         {'redis_rejected_connections_total{instance="a",server="main"}': rise(1)},
         {'redis_rejected_connections_total{instance="a",server="main"}': stay(5)}),
    case("NginxDown", "critical", 5, *one('nginx_up{instance="a"}', 0, 1)),
    case("WorkerFailures", "warning", 20, {WORKERS: "_x15 1+0x20"}, {WORKERS: stay(4)}),
    case("WorkerFailures", "critical", 20, {WORKERS: rise(1)}, {WORKERS: "0x15 1+0x20"}),
    case("ReleaseFailed", "warning", 5, *one('golive_release_last_success{instance="a",application="shop",what="deploy"}', 0, 1)),
    case("ReleaseRolledBack", "warning", 30,
         age('golive_release_last_rollback_timestamp_seconds{instance="a",application="shop"}'),
         {'golive_release_last_rollback_timestamp_seconds{instance="a",application="shop"}': stay(-3600)}),
    case("CertificateEnds", "warning", 20, *one('probe_ssl_earliest_cert_expiry{site="shop",instance="a"}', 13 * 86400, 15 * 86400)),
    case("CertificateEnds", "critical", 20, *one(
         'golive_certificate_expires_timestamp_seconds{path="/x.crt",instance="a"}', 2 * 86400, 13 * 86400)),
    case("BackupLate", "warning", 27 * HOUR, age(f'{BACKUP}{{kind="dump",name="shop",instance="a"}}'),
         {f'{BACKUP}{{kind="dump",name="shop",instance="a"}}': stay(7200)}),
    case("BackupLate", "critical", 51 * HOUR, age(f'{BACKUP}{{kind="full",name="main",instance="a"}}'),
         {f'{BACKUP}{{kind="full",name="main",instance="a"}}': stay(0),
          f'{BACKUP}{{kind="diff",name="main",instance="a"}}': stay(7200)}),
    case("BackupFailed", "warning", 5, *one('golive_backup_last_run_success{kind="dump",name="shop",instance="a"}', 0, 1)),
    case("BackupProblems", "warning", 15, *one('golive_backup_check_problems{instance="a"}', 1, 0)),
    case("WalArchiveLate", "warning", 5, *one('golive_backup_wal_oldest_pending_seconds{instance="a"}', 901, 899)),
    case("WalArchiveLate", "critical", 5, *one('golive_backup_wal_oldest_pending_seconds{instance="a"}', 3601, 3599)),
    case("WalGap", "critical", 5, *one('golive_backup_wal_gap{instance="a"}', 1, 0)),
    case("RestoreDrillLate", "warning", 8 * DAY + HOUR, age(f'{BACKUP}{{kind="drill",name="main",instance="a"}}'),
         {f'{BACKUP}{{kind="drill",name="main",instance="a"}}': stay(3600)}),
    case("RestoreDrillFailed", "critical", 5, *one('golive_backup_last_run_success{kind="drill",name="main",instance="a"}', 0, 1)),
    case("ConfigurationRefused", "warning", 5, *one('prometheus_config_last_reload_successful{job="prometheus",instance="a"}', 0, 1)),
    case("RulesFail", "warning", 10, {'prometheus_rule_evaluation_failures_total{rule_group="x",instance="a"}': rise(1)},
         {'prometheus_rule_evaluation_failures_total{rule_group="x",instance="a"}': stay(3)}),
    case("NotificationsFail", "critical", 20, {'alertmanager_notifications_failed_total{integration="email",instance="a"}': rise(1)},
         {'alertmanager_notifications_failed_total{integration="email",instance="a"}': stay(3)}),
]  # fmt: skip


def promtool_tests(rules: str, slow: bool) -> dict[str, Any]:
    """Cases as promtool's file of tests: those of minutes, or those of days."""
    tests = []
    for told in CASES:
        if slow != (told.minute > 20 * HOUR):
            continue
        chosen = ",".join(f'{name}="{value}"' for name, value in told.labels.items())
        expression = f'count(ALERTS{{alertstate="firing",{chosen}}}) or vector(0)'
        for series, firing in ((told.fires, 1), (told.quiet, 0)):
            tests.append(_test(expression, told.minute, series, firing, slow))
    if not slow:
        # It has no quiet state.
        tests.append(_test('count(ALERTS{alertstate="firing"})', 5, NOTHING, 1, False))
    every = "1h" if slow else "1m"
    return {"rule_files": [rules], "evaluation_interval": every, "tests": tests}


def _test(expression: str, minute: int, series: Series, value: int, slow: bool) -> dict[str, Any]:
    samples = [{"labels": "{}", "value": value}]
    return {
        "interval": "1h" if slow else "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples}
        ],
    }
