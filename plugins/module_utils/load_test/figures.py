# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a run, by endpoint and by second; targets that were missed; the run before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# A request as the load's program writes it: second, number of its name, milliseconds, what failed.
Request = Sequence[Any]
# Targets: which figure, whether it has to be above or below, and its unit.
TARGETS = {
    "p50_ms": ("p50", "below", "ms"),
    "p95_ms": ("p95", "below", "ms"),
    "p99_ms": ("p99", "below", "ms"),
    "mean_ms": ("mean", "below", "ms"),
    "success_percent": ("success_percent", "above", "%"),
    "requests_per_minute": ("requests_per_minute", "above", "requests/min"),
}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of a sorted list: the smallest with `share` % at or below it."""
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def summary(requests: Sequence[Request]) -> dict[str, Any]:
    """Times in milliseconds. A request that failed counts with its time."""
    if not requests:
        return {"requests": 0, "failed": 0, "success_percent": 0.0}
    times = sorted(float(one[2]) for one in requests)
    failed = sum(bool(one[3]) for one in requests)
    return {
        "requests": len(times),
        "failed": failed,
        "success_percent": round(100 * (len(times) - failed) / len(times), 3),
        "mean": round(statistics.fmean(times), 2),
        "median": round(statistics.median(times), 2),
        "min": times[0],
        "max": times[-1],
        "deviation": round(statistics.pstdev(times), 2),
        "p50": percentile(times, 50),
        "p95": percentile(times, 95),
        "p99": percentile(times, 99),
    }


def by_second(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Requests, failures and times of each second in which something ended."""
    seconds: dict[int, list[Request]] = {}
    for one in requests:
        seconds.setdefault(int(one[0] + one[2] / 1000), []).append(one)
    found = []
    for second in sorted(seconds):
        told = summary(seconds[second])
        found.append(
            {"second": second, **{k: told[k] for k in ("requests", "failed", "p50", "p95")}}
        )
    return found


def faults(requests: Sequence[Request], names: Sequence[str]) -> list[dict[str, Any]]:
    """What failed, how often, most often first."""
    counts: dict[tuple[str, str], int] = {}
    for one in requests:
        if one[3]:
            key = (names[one[1]], str(one[3]))
            counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"request": name, "fault": fault, "times": n} for (name, fault), n in ordered]


def figures(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is told of a run."""
    names, requests = raw["names"], raw["requests"]
    seconds = max(float(raw["seconds"]), 0.001)
    # To log in is slow on purpose, and each user does it once: it has to succeed, and its time is
    # told beside the others'.
    flow = {number for number, name in enumerate(names) if name in raw.get("flow", [])}
    everything = summary(requests)
    total = summary([one for one in requests if one[1] not in flow]) if flow else everything
    return {
        **total,
        **{name: everything[name] for name in ("requests", "failed", "success_percent")},
        "seconds": seconds,
        "requests_per_minute": round(everything["requests"] * 60 / seconds, 1),
        "endpoints": {
            name: summary([one for one in requests if one[1] == number])
            for number, name in enumerate(names)
        },
        "flow": [name for number, name in enumerate(names) if number in flow],
        "by_second": by_second(requests),
        "faults": faults(requests, names),
    }


def missed(found: Mapping[str, Any], targets: Mapping[str, float]) -> list[str]:
    """A text for each target that was missed. A run without a request misses all of them."""
    told = []
    for name, target in targets.items():
        figure, side, unit = TARGETS[name]
        value = found.get(figure)
        if value is None:
            told.append(f"{figure}: nothing was measured (target {target:g} {unit})")
        elif (value >= target) if side == "below" else (value <= target):
            told.append(f"{figure} was {value:g} {unit} (target: {side} {target:g})")
    return told


def compared(found: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    """How the figures stand to the last run of the same profile, where there is one."""
    if not before:
        return []
    told = []
    for name, unit in (
        ("p50", "ms"),
        ("p95", "ms"),
        ("p99", "ms"),
        ("requests_per_minute", "/min"),
    ):
        now, then = found.get(name), before.get(name)
        if now is None or not then:
            continue
        change = 100 * (now - then) / then
        told.append(f"{name} {then:g} -> {now:g} {unit} ({change:+.0f} %)")
    return told


def _share(samples: Sequence[Mapping[str, Any]], condition: Any) -> float:
    known = [one for one in samples if condition(one) is not None]
    return sum(bool(condition(one)) for one in known) / len(known) if known else 0.0


def causes(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What was short on the hosts meanwhile, in words; `samples` are a host's, one a second."""
    told = []
    for host, found in sorted(samples.items()):
        if not found:
            continue

        def mean(name: str, found: Sequence[Mapping[str, Any]] = found) -> float | None:
            values = [float(one[name]) for one in found if one.get(name) is not None]
            return statistics.fmean(values) if values else None

        cpu, memory = mean("cpu_percent"), mean("memory_percent")
        if cpu is not None and cpu > 80:
            told.append(f"{host}: its processors were {cpu:.0f} % busy")
        if memory is not None and memory > 90:
            told.append(f"{host}: {memory:.0f} % of its memory was taken")
        full = max(
            (
                one["connections"] / one["max_connections"]
                for one in found
                if one.get("max_connections")
            ),
            default=0.0,
        )
        if full >= 0.9:
            told.append(f"{host}: {full:.0%} of PostgreSQL's connections were taken")
        if _share(found, lambda one: one["waiting"] > 0 if "waiting" in one else None) > 0.3:
            told.append(f"{host}: statements waited for locks")
        slowest = max((one.get("slowest_ms") or 0.0 for one in found), default=0.0)
        if slowest > 500:
            told.append(f"{host}: a statement ran for {slowest / 1000:.1f} s")
        queued = max((one.get("queued") or 0 for one in found), default=0)
        if _share(found, lambda one: one["queued"] > 0 if "queued" in one else None) > 0.3:
            told.append(f"{host}: up to {queued} requests waited for a free worker")
        hits = [one for one in found if one.get("hits") is not None]
        if len(hits) > 1:
            got = hits[-1]["hits"] - hits[0]["hits"]
            lost = hits[-1]["misses"] - hits[0]["misses"]
            if got + lost > 20 and got / (got + lost) < 0.7:
                told.append(
                    f"{host}: the cache had {100 * got / (got + lost):.0f} % of what was asked for"
                )
    return told
