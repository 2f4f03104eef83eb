# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.openpgp import (
    fingerprint,
)


def openpgp_fingerprint(text: Any) -> str:
    try:
        return fingerprint(str(text))
    except PostgresError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"openpgp_fingerprint": openpgp_fingerprint}
