"""Checks a log entry against the rules of its application."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:
        return None


def field_value(entry: Mapping[str, Any], field: str) -> Any:
    """A value by dotted path, e.g. `level` or `details.user.id`."""
    value: Any = entry
    for part in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def violates(rule: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """True when the entry breaks the rule; absent values break only `required`."""
    value = field_value(entry, rule["field"])
    params = rule["params"] or {}
    kind = rule["kind"]
    if kind == "required":
        return value is None or value == ""
    if value is None:
        return False
    if kind == "regex":
        # Only a prefix is searched: rules are data, and a slow pattern must stay bounded.
        pattern = _pattern(str(params.get("pattern", "")))
        return pattern is None or pattern.search(str(value)[:1000]) is None
    if kind in ("max_length", "min_length"):
        limit = params.get("value")
        if not isinstance(limit, (int, float)):
            return True
        length = len(value) if isinstance(value, (str, list, dict)) else len(str(value))
        return length > limit if kind == "max_length" else length < limit
    if kind == "one_of":
        return value not in params.get("values", [])
    if kind == "range":
        low, high = params.get("min"), params.get("max")
        if not _number(value):
            return True
        return (_number(low) and value < low) or (_number(high) and value > high)
    return True


def broken_rules(
    rules: Iterable[Mapping[str, Any]], entry: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Every enabled rule that the entry breaks, in the order of the rules."""
    return [rule for rule in rules if rule["is_enabled"] and violates(rule, entry)]
