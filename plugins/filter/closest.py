# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError


def closest(name: Any, names: Iterable[str]) -> str:
    if not isinstance(name, str) or isinstance(names, str):
        raise AnsibleFilterError("closest needs a text and a list of texts")
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)), "")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"closest": closest}
