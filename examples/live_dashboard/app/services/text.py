"""Checks for text that both databases must be able to store."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 20


def storable_text(value: str) -> bool:
    """PostgreSQL refuses NUL and lone surrogates."""
    if "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable_json(value: Any, depth: int = 0) -> bool:
    """True when a parsed JSON value fits PostgreSQL's json and jsonb."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(storable_text(k) and storable_json(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return all(storable_json(item, depth + 1) for item in value)
    return True
