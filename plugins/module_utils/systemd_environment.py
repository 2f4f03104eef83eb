# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables as the lines of a systemd EnvironmentFile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r'([\\"$`])')


class EnvironmentFileError(ValueError):
    """Which variable can't be written; never its value."""


def quote_value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        raise EnvironmentFileError(
            f"The environment variable {name} is {_kind(value)}. Set it to a text or a number."
        )
    if re.search(r"[\n\r\x00]", text):
        raise EnvironmentFileError(
            f"The value of the environment variable {name} has a line end or a NUL in it, which "
            "an EnvironmentFile can't hold."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EnvironmentFileError(
            f"The value of the environment variable {name} is no UTF-8 text."
        ) from None
    return '"' + _SPECIAL.sub(r"\\\1", text) + '"'


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def environment_lines(variables: Mapping[str, Any]) -> str:
    """Sorted by name, so that the same variables always make the same file."""
    lines = []
    for name in sorted(variables, key=str):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise EnvironmentFileError(
                f"{name!r} is no name of an environment variable. Use letters, digits and _, not "
                "starting with a digit."
            )
        lines.append(f"{name}={quote_value(name, variables[name])}\n")
    return "".join(lines)
