# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from ansible.errors import AnsibleFilterError


def url_userinfo(text: Any) -> str:
    if not isinstance(text, str):
        raise AnsibleFilterError("url_userinfo needs a text")
    return quote(text, safe="")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"url_userinfo": url_userinfo}
