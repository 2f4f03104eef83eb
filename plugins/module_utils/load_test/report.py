# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as one HTML page that needs nothing else, and as a table for a terminal."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import TARGETS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 220, 56, 24
_COLUMNS = ("requests", "failed", "success_percent", "mean", "median", "min", "max",
            "deviation", "p50", "p95", "p99")  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --a: #2563eb; --b: #d97706; }
:root { --bad: #dc2626; --good: #15803d; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .missed { color: var(--bad); } .met { color: var(--good); }
svg { width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; }
"""


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.1f}"


def terminal(found: Mapping[str, Any]) -> list[str]:
    """One line for each endpoint and one for all, in columns."""
    rows = [["", *_COLUMNS]]
    for name, one in {**found["endpoints"], "all": found}.items():
        rows.append([name, *(_number(one.get(column)) for column in _COLUMNS)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def line(name: str, found: Mapping[str, Any], targets: Mapping[str, float]) -> str:
    """The figures that have targets, each with its target."""
    told = []
    for target, wanted in targets.items():
        figure, _side, unit = TARGETS[target]
        told.append(f"{figure} {_number(found.get(figure))} {unit} (target {wanted:g})")
    return f"{name}: {found['requests']:,} requests, " + ", ".join(told)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{html.escape(text)}</text>'


def _chart(
    title: str, seconds: Sequence[float], lines: Mapping[str, Sequence[Any]], unit: str
) -> str:
    known = [value for values in lines.values() for value in values if value is not None]
    if not known:
        return ""
    top, last = max(known) or 1, max(seconds) or 1
    floor, room = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - 24
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT + 20}"'
    parts = [f'<svg {size} role="img" aria-label="{html.escape(title)}">', _text(_LEFT, 12, title)]
    for step in range(5):
        y = floor - room * step / 4
        ends = f'x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line {ends} stroke="var(--line)"/>')
        parts.append(_text(_LEFT - 6, y + 4, _number(top * step / 4), ' text-anchor="end"'))
    for number, (name, values) in enumerate(lines.items()):
        points = " ".join(
            f"{_LEFT + (_WIDTH - _LEFT) * second / last:.1f},{floor - room * value / top:.1f}"
            for second, value in zip(seconds, values)
            if value is not None
        )
        colour = ("var(--a)", "var(--b)", "var(--bad)")[number % 3]
        drawn = f'fill="none" stroke="{colour}" stroke-width="2"'
        parts.append(f'<polyline points="{points}" {drawn}/>')
        place = _LEFT + 130 * number
        parts.append(_text(place, _HEIGHT + 14, f"{name}, {unit}", f' style="fill:{colour}"'))
    parts.append(_text(_WIDTH, _HEIGHT - 6, f"{_number(last)} s", ' text-anchor="end"'))
    return "".join(parts) + "</svg>"


def _list(title: str, lines: Sequence[str], kind: str = "") -> str:
    if not lines:
        return ""
    items = "".join(f'<li class="{kind}">{html.escape(line)}</li>' for line in lines)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>"


def page(run: Mapping[str, Any]) -> str:
    """`run` has title, when, figures, missed, causes, compared and samples."""
    found = run["figures"]
    title = html.escape(run["title"])
    head = "".join(f"<th>{html.escape(column)}</th>" for column in ("request", *_COLUMNS))
    rows = "".join(
        f"<tr><td>{html.escape(name)}{' *' if name in found.get('flow', []) else ''}</td>"
        + "".join(f"<td>{_number(one.get(column))}</td>" for column in _COLUMNS)
        + "</tr>"
        for name, one in {**found["endpoints"], "all": found}.items()
    )
    seconds = [one["second"] for one in found["by_second"]]

    def each(figure: str) -> list[Any]:
        return [one[figure] for one in found["by_second"]]

    charts = _chart(
        "Times of the requests that ended in a second",
        seconds,
        {"p50": each("p50"), "p95": each("p95")},
        "ms",
    )
    charts += _chart(
        "Requests", seconds, {"ended": each("requests"), "failed": each("failed")}, "a second"
    )
    for host, samples in sorted(run["samples"].items()):
        charts += _chart(
            f"{host}: processors and memory",
            [one["second"] for one in samples],
            {
                "processors": [one.get("cpu_percent") for one in samples],
                "memory": [one.get("memory_percent") for one in samples],
            },
            "%",
        )
    verdict = "missed" if run["missed"] else "met"
    told = (
        f"{html.escape(run['when'])}, {found['requests']:,} requests in"
        f" {_number(found['seconds'])} s, {_number(found['requests_per_minute'])} a minute."
    )
    faults = [f"{one['times']} times {one['request']}: {one['fault']}" for one in found["faults"]]
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
            f'<p>{told} <strong class="{verdict}">Targets {verdict}.</strong></p>',
            _list("Targets missed", run["missed"], "missed"),
            _list("What was short meanwhile", run["causes"]),
            "<h2>Figures</h2><p>Times in milliseconds."
            + (
                " * What each user does once at first; its times are not in those of all.</p>"
                if found.get("flow")
                else "</p>"
            ),
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>',
            f"</table></div><h2>Over time</h2>{charts}",
            _list("Failed requests", faults, "missed"),
            _list("Compared with the run before", run["compared"]),
            "</body></html>\n",
        ]
    )
