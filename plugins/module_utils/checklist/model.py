# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of the checklist, what a check finds, and which state follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PROVED = "proved"
FAILED = "failed"
NOT_APPLICABLE = "not_applicable"
PEOPLE = "people"
STATES = (FAILED, PEOPLE, NOT_APPLICABLE, PROVED)
GROUPS = ("database", "cache", "app", "proxy", "monitoring", "load", "saved", "all")
KEYS = {"id", "phase", "source", "text", "hosts", "applies", "checks", "advice", "person"}

_NAMED = re.compile(r"\{([a-z_]+)\}")


class Failed(Exception):
    """A check that did not find what it looked for, or could not look."""

    def __init__(self, why: str, asked: str = "") -> None:
        super().__init__(why)
        self.asked = asked


class NotApplicable(Exception):
    """There is nothing here that the entry is about."""


class Undecided(Exception):
    """Nothing to ask is known here, so people decide, where the entry lets them."""


@dataclass(frozen=True)
class Found:
    """One thing that was asked and what it said; a problem makes the entry fail."""

    asked: str
    said: str
    problem: str = ""


@dataclass(frozen=True)
class Result:
    """An entry on one host."""

    id: str
    state: str
    reason: str = ""
    evidence: list[dict[str, str]] = field(default_factory=list)
    when: str = ""
    seconds: float = 0

    def told(self) -> dict[str, Any]:
        return asdict(self)


def resolved(value: Any, context: Mapping[str, Any]) -> Any:
    """'@name' is the context's value itself; '{name}' in a text is that value as text."""
    if isinstance(value, str):
        if value.startswith("@"):
            if value[1:] not in context:
                raise Failed(f"the context has no '{value[1:]}'")
            return context[value[1:]]
        return _NAMED.sub(
            lambda found: str(context[found[1]]) if found[1] in context else found[0], value
        )
    if isinstance(value, Mapping):
        return {key: resolved(one, context) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, context) for one in value]
    return value


_COMPARED = re.compile(r"(<=|>=|<|>|==)\s*(-?[0-9.]+)")


def compare(figure: float, wanted: str) -> bool:
    """Whether a figure keeps to a bound such as '< 100'."""
    found = _COMPARED.fullmatch(wanted.strip())
    if not found:
        raise Failed(f"'{wanted}' is no bound; one looks like '< 100'")
    bound = float(found[2])
    return {
        "<": figure < bound, "<=": figure <= bound, ">": figure > bound,
        ">=": figure >= bound, "==": figure == bound,
    }[found[1]]  # fmt: skip


def problems(entries: list[dict[str, Any]], known: Mapping[str, Any]) -> list[str]:
    """What is wrong with entries, each in a sentence."""
    told = []
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        name = str(entry.get("id") or f"number {number + 1}")
        if not re.fullmatch(r"[a-z][a-z0-9]*(\.[a-z0-9]+)+", name):
            told.append(f"{name}: an id is like p1.03 or own.backup, in lower case.")
        if name in seen:
            told.append(f"{name}: there are two entries with this id.")
        seen.add(name)
        if not str(entry.get("text") or "").strip():
            told.append(f"{name}: it has no text.")
        for key in set(map(str, entry)) - KEYS:
            told.append(
                f"{name}: '{key}' is no part of an entry; those are {', '.join(sorted(KEYS))}."
            )
        if entry.get("hosts", "all") not in GROUPS:
            told.append(
                f"{name}: hosts is '{entry['hosts']}'; it takes one of {', '.join(GROUPS)}."
            )
        if entry.get("phase") not in range(1, 9):
            told.append(f"{name}: phase is {entry.get('phase')!r}; it takes 1 to 8.")
        checks = entry.get("checks") or []
        if not checks and not str(entry.get("person") or "").strip():
            told.append(f"{name}: it has neither checks nor, in person, why people have to decide.")
        for key, reason in dict(entry.get("applies") or {}).items():
            if not reason:
                told.append(f"{name}: applies has no reason for {key}.")
        for check in checks:
            if check.get("check") not in known:
                told.append(f"{name}: there is no check '{check.get('check')}'.")
    return told
