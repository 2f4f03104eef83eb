# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus knows of the last days, as JSON: ADDRESS USER DAYS.

Alerts with the minutes that they fired, requests and latency by site, backups, updates that wait,
and how much room is left.
"""

import base64
import json
import ssl
import sys
import urllib.parse
import urllib.request

DISKS = '{fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*|nsfs",mountpoint!~"/etc/.*|/run/.*"}'
# Each gives one figure for each set of the labels that are named first.
FIGURES = {
    "sites": (
        ["site"],
        {
            "requests": "sum by (site) (increase(golive_http_requests_total[RANGE]))",
            "errors": 'sum by (site) (increase(golive_http_requests_total{class="5xx"}[RANGE]))',
            "p50": "histogram_quantile(0.5, sum by (site, le)"
            " (increase(golive_http_request_seconds_bucket[RANGE])))",
            "p95": "histogram_quantile(0.95, sum by (site, le)"
            " (increase(golive_http_request_seconds_bucket[RANGE])))",
            "p99": "histogram_quantile(0.99, sum by (site, le)"
            " (increase(golive_http_request_seconds_bucket[RANGE])))",
            "worst_p95": "max_over_time(golive:site_seconds:p95[RANGE])",
        },
    ),
    "alerts": (
        ["alertname", "severity"],
        {
            "minutes": "sum by (alertname, severity) (count_over_time("
            'ALERTS{alertstate="firing",severity!="none"}[RANGE:1m]))'
        },
    ),
    "backups": (
        ["instance", "name", "kind"],
        {
            "age": "time() - max by (instance, name, kind)"
            " (golive_backup_last_success_timestamp_seconds)",
            "seconds": "max by (instance, name, kind) (golive_backup_duration_seconds)",
            "bytes": "max by (instance, name, kind) (golive_backup_size_bytes)",
            "all_good": "min by (instance, name, kind)"
            " (min_over_time(golive_backup_last_run_success[RANGE]))",
        },
    ),
    "hosts": (
        ["instance"],
        {
            "cpu": "100 * (1 - avg by (instance)"
            ' (rate(node_cpu_seconds_total{mode="idle"}[RANGE])))',
            "cpu_most": "max by (instance) (max_over_time((100 * (1 - avg by (instance)"
            ' (rate(node_cpu_seconds_total{mode="idle"}[1h]))))[RANGE:1h]))',
            "memory_most": "100 * (1 - min by (instance)"
            " (min_over_time(node_memory_MemAvailable_bytes[RANGE]))"
            " / max by (instance) (node_memory_MemTotal_bytes))",
            "security_updates": "max by (instance) (golive_apt_security_updates)",
            "reboot": "max by (instance) (golive_reboot_required)",
        },
    ),
    "disks": (
        ["instance", "mountpoint"],
        {
            "used": f"100 * (1 - node_filesystem_avail_bytes{DISKS}"
            f" / node_filesystem_size_bytes{DISKS})",
            "bytes_a_day": f"-86400 * deriv(node_filesystem_avail_bytes{DISKS}[RANGE])",
            "free": f"node_filesystem_avail_bytes{DISKS}",
        },
    ),
    "databases": (
        ["instance"],
        {
            # A subquery knows whole minutes only: a young Prometheus may not have one yet.
            "connections_most": "max_over_time("
            "(sum by (instance) (pg_stat_activity_count))[RANGE:1m])"
            " or sum by (instance) (pg_stat_activity_count)",
            "connections_limit": "max by (instance) (pg_settings_max_connections)",
            "bytes": "sum by (instance) (pg_database_size_bytes)",
            "bytes_a_day": "86400 * sum by (instance) (deriv(pg_database_size_bytes[RANGE]))",
        },
    ),
    "caches": (
        ["instance", "server"],
        {
            "hit_percent": "100 * increase(redis_keyspace_hits_total[RANGE])"
            " / (increase(redis_keyspace_hits_total[RANGE])"
            " + increase(redis_keyspace_misses_total[RANGE]) > 0)",
            "memory": "redis_memory_used_bytes",
            "memory_limit": "redis_memory_max_bytes",
            "evicted": "increase(redis_evicted_keys_total[RANGE])",
        },
    ),
}


def asker(base, user, days):
    context = ssl.create_default_context()
    # The host asks itself, by an address that the certificate may not have.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )

    def ask(query):
        request = urllib.request.Request(
            base + "/api/v1/query",
            urllib.parse.urlencode({"query": query.replace("RANGE", f"{days}d")}).encode(),
        )
        if user:
            with open("/etc/prometheus/golive-password", encoding="utf-8") as file:
                login = base64.b64encode(f"{user}:{file.read()}".encode()).decode()
            request.add_header("Authorization", "Basic " + login)
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)["data"]["result"]

    return ask


def rows(ask, labels, queries):
    found = {}
    for figure, query in queries.items():
        for one in ask(query):
            key = tuple(one["metric"].get(label, "") for label in labels)
            number = float(one["value"][1])
            # JSON has no NaN: 0 / 0 is no figure at all.
            found.setdefault(key, {})[figure] = round(number, 3) if abs(number) < 1e18 else None
    return [dict(zip(labels, key), **found[key]) for key in sorted(found)]


def main(base, user, days):
    ask = asker(base, user, days)
    try:
        told = {name: rows(ask, labels, queries) for name, (labels, queries) in FIGURES.items()}
        since = ask("min(prometheus_tsdb_lowest_timestamp_seconds)")
    except OSError as error:
        sys.exit(f"{error}")
    told["days"] = days
    told["since"] = float(since[0]["value"][1]) if since else None
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
