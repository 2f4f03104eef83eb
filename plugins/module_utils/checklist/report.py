# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of all hosts as one checklist: JSON, Markdown, one HTML page, and a few lines."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from .model import FAILED, NOT_APPLICABLE, PEOPLE, PROVED, STATES, resolved

PHASES = {
    1: "Database", 2: "Cache", 3: "Application", 4: "Proxy", 5: "Performance",
    6: "Monitoring and logs", 7: "Load", 8: "Production",
}  # fmt: skip
WORDS = {
    PROVED: "proved", FAILED: "failed", NOT_APPLICABLE: "not applicable", PEOPLE: "for people",
}  # fmt: skip
_MARKS = {PROVED: "x", FAILED: " ", NOT_APPLICABLE: "-", PEOPLE: " "}


def _merged(entry: Mapping[str, Any], hosts: Mapping[str, Any]) -> tuple[str, str]:
    """One state of all hosts that the entry concerns, and why."""
    if not hosts:
        return NOT_APPLICABLE, f"the inventory has no host in the group {entry.get('hosts', 'all')}"
    if not entry.get("checks"):
        return PEOPLE, str(entry.get("person", ""))
    states = {name: one["state"] for name, one in hosts.items()}
    for state in (FAILED, PEOPLE):
        wrong = {name: hosts[name]["reason"] for name, one in states.items() if one == state}
        if wrong and len(hosts) == 1 or len(set(wrong.values())) == 1 and len(wrong) == len(hosts):
            return state, next(iter(wrong.values()))
        if wrong:
            return state, "; ".join(f"{name}: {reason}" for name, reason in sorted(wrong.items()))
    if PROVED not in states.values():
        return NOT_APPLICABLE, "; ".join(sorted({one["reason"] for one in hosts.values()}))
    return PROVED, ""


def merge(
    entries: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Sequence[str]],
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    sign_offs: Mapping[str, Any],
    not_applicable: Mapping[str, str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """`asked` has the hosts of each group; one of them without a result fails its entries."""
    named: Mapping[str, Any] = next(iter(dict(about.get("contexts") or {}).values()), {})
    by_host = {name: {one["id"]: dict(one) for one in told} for name, told in results.items()}
    told = []
    for entry in entries:
        name = str(entry["id"])
        hosts: dict[str, Any] = {}
        for host in asked.get(str(entry.get("hosts", "all")), []):
            hosts[host] = by_host.get(host, {}).get(name) or {
                "id": name, "state": FAILED, "reason": "the host gave no answer", "evidence": [],
                "when": "", "seconds": 0,
            }  # fmt: skip
        state, reason = _merged(entry, hosts)
        if name in not_applicable:
            state, reason = NOT_APPLICABLE, f"{not_applicable[name]} (said by the inventory)"
        signed = sign_offs.get(name) or {}
        if isinstance(signed, str):
            signed = {"name": signed}
        told.append(
            {
                "id": name, "phase": entry["phase"], "text": entry["text"],
                "source": entry.get("source", "the inventory's own"), "state": state,
                "reason": reason,
                "advice": resolved(entry.get("advice", ""), named) if state == FAILED else "",
                "hosts": hosts,
                "signed": {key: str(signed.get(key, "")) for key in ("name", "date")}
                if state == PEOPLE and signed else {},
            }
        )  # fmt: skip
    return {**about, "counts": counted(told), "entries": told}


def counted(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = {state: sum(one["state"] == state for one in entries) for state in STATES}
    counts["signed"] = sum(bool(one["signed"]) for one in entries)
    counts["all"] = len(entries)
    return counts


def count_line(document: Mapping[str, Any]) -> str:
    counts = document["counts"]
    line = f"{counts[PROVED]} proved, {counts[FAILED]} failed, {counts[PEOPLE]} for people"
    line += f" ({counts['signed']} signed), {counts[NOT_APPLICABLE]} not applicable;"
    return f"{line} {counts['all']} in all"


def failed_lines(document: Mapping[str, Any]) -> list[str]:
    """What failed, why, and what to do, for a terminal."""
    told = []
    for entry in document["entries"]:
        if entry["state"] == FAILED:
            line = f"{entry['id']} {entry['text'].rstrip('.')}: {entry['reason'].rstrip('.')}."
            told.append(f"{line} {entry['advice']}".rstrip())
    return told


def _evidence(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (host, one["when"], piece["asked"], piece["said"])
        for host, one in entry["hosts"].items()
        for piece in one["evidence"]
    ]


def markdown(document: Mapping[str, Any]) -> str:
    def plain(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")

    lines = [f"# Deployment checklist: {plain(document['application'])}", ""]
    lines += [f"Release {document['release']}, {document['when']}, {document['url']}", "",
              f"**{count_line(document)}**", ""]  # fmt: skip
    for phase, title in PHASES.items():
        entries = [one for one in document["entries"] if one["phase"] == phase]
        if not entries:
            continue
        lines += [f"## {phase}. {title}", ""]
        for entry in entries:
            done = "x" if entry["signed"] else _MARKS[entry["state"]]
            line = f"- [{done}] `{entry['id']}` {plain(entry['text'])} **{WORDS[entry['state']]}**"
            lines.append(line + (f": {plain(entry['reason'])}" if entry["reason"] else ""))
            if entry["advice"]:
                lines.append(f"  - what to do: {plain(entry['advice'])}")
            if entry["state"] == PEOPLE:
                signed = entry["signed"] or {"name": "____________", "date": "__________"}
                lines.append(f"  - name: {plain(signed['name'])}, date: {plain(signed['date'])}")
            for host, when, asked, said in _evidence(entry):
                lines.append(f"  - {host}, {when}: `{asked.replace('`', ' ')}`: {plain(said)}")
        lines.append("")
    return "\n".join(lines)


_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --good: #15803d; --bad: #dc2626;
 --ask: #b45309; --none: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --good: #4ade80; --bad: #f87171; --ask: #fbbf24;
 --none: #9ca3af; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .muted { color: var(--none); font-size: .9rem; }
body > label { border: 1px solid var(--line); border-radius: 1rem; padding: .25rem .8rem;
 cursor: pointer; display: inline-block; margin: .2rem; }
input[type=radio] { position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0; }
input[type=radio]:checked + label { outline: 2px solid currentColor; font-weight: 600; }
input[type=radio]:focus-visible + label { outline: 3px dashed currentColor; }
.failed > .state, label.failed { color: var(--bad); }
.proved > .state, label.proved { color: var(--good); }
.people > .state, label.people { color: var(--ask); }
.not_applicable > .state, label.not_applicable { color: var(--none); }
article { border-top: 1px solid var(--line); padding: .6rem 0; display: grid; gap: 0 .8rem;
 grid-template-columns: 4rem 8rem 1fr; break-inside: avoid; }
article > div { min-width: 0; overflow-wrap: anywhere; }
.state { font-weight: 600; } code { font: .85em ui-monospace, monospace; }
details { margin-top: .3rem; } summary { cursor: pointer; color: var(--none); font-size: .9rem; }
dl { margin: .3rem 0; padding: .5rem; background: var(--soft); border-radius: .3rem;
 font-size: .9rem; }
dt { color: var(--none); } dd { margin: 0 0 .4rem; }
.sign { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .4rem; }
.sign span { border-bottom: 1px solid currentColor; min-width: 11rem; display: inline-block; }
@media (max-width: 40rem) { article { grid-template-columns: 4rem 1fr; }
 article > div:last-child { grid-column: 1 / -1; } }
@media print { body > label, input { display: none; } body { font-size: 11pt; max-width: none; }
 details > dl { display: block; } }
"""


def _filters() -> str:
    """Which entries are shown, without any script."""
    return "".join(
        f"#show-{state}:checked ~ main article:not(.{state}),"
        f" #show-{state}:checked ~ main section:not(:has(.{state})) {{ display: none; }}\n"
        for state in STATES
    )


def page(document: Mapping[str, Any]) -> str:
    def safe(text: Any) -> str:
        return html.escape(str(text))

    title = safe(f"Deployment checklist: {document['application']}")
    choices = [("all", f"all {document['counts']['all']}")]
    choices += [(state, f"{WORDS[state]} {document['counts'][state]}") for state in STATES]
    radios = "".join(
        f'<input type="radio" name="show" id="show-{name}"{" checked" if name == "all" else ""}>'
        f'<label class="{name}" for="show-{name}">{safe(text)}</label>'
        for name, text in choices
    )
    parts = []
    for phase, phase_title in PHASES.items():
        entries = [one for one in document["entries"] if one["phase"] == phase]
        if entries:
            proved = sum(one["state"] == PROVED for one in entries)
            share = f'<span class="muted">{proved} of {len(entries)} proved</span>'
            parts.append(f"<section><h2>{phase}. {phase_title} {share}</h2>")
            parts += [_article(entry) for entry in entries]
            parts.append("</section>")
    head = f"Release {safe(document['release'])}, {safe(document['when'])}, {safe(document['url'])}"
    # The radio buttons stand beside <main>, so that style alone can filter it.
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}{_filters()}</style></head><body>",
            f'<h1>{title}</h1><p class="muted">{head}</p>',
            f'<p id="counts"><strong>{safe(count_line(document))}</strong></p>',
            radios,
            f"<main>{''.join(parts)}</main></body></html>",
            "",
        ]
    )  # fmt: skip


def _article(entry: Mapping[str, Any]) -> str:
    def safe(text: Any) -> str:
        return html.escape(str(text))

    state = entry["state"]
    told = f"<p>{safe(entry['text'])}</p>"
    if entry["reason"]:
        told += f'<p class="muted">{safe(entry["reason"])}</p>'
    if entry["advice"]:
        told += f"<p><strong>What to do:</strong> {safe(entry['advice'])}</p>"
    if state == PEOPLE:
        signed = entry["signed"] or {"name": "", "date": ""}
        told += '<p class="sign">'
        for key in ("name", "date"):
            told += f"<label>{key.title()} <span>{safe(signed[key]) or '&nbsp;'}</span></label>"
        told += "</p>"
    pieces = "".join(
        f"<dt>{safe(host)}, {safe(when)}</dt><dd><code>{safe(asked)}</code><br>{safe(said)}</dd>"
        for host, when, asked, said in _evidence(entry)
    )
    if pieces:
        told += f"<details><summary>Evidence</summary><dl>{pieces}</dl></details>"
    told += f'<p class="muted">Asked for by {safe(entry["source"])}</p>'
    name = safe(entry["id"])
    head = f"<div><code>{name}</code></div>"
    head += f'<div class="state">{WORDS[state]}</div>'
    return f'<article class="{state}" id="{name}">{head}<div>{told}</div></article>'
