# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.hba import line


def postgres_hba_lines(entries: Any, tls: bool = False) -> list[str]:
    if not isinstance(entries, (list, tuple)) or not all(isinstance(one, dict) for one in entries):
        raise AnsibleFilterError("postgres_hba_lines needs a list of dictionaries")
    return [line(entry, tls) for entry in entries]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"postgres_hba_lines": postgres_hba_lines}
