# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.golive.webstack.plugins.module_utils.systemd_environment import (
    EnvironmentFileError,
    environment_lines,
)


def systemd_environment(variables: Any) -> str:
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError("systemd_environment needs a dictionary of variables")
    try:
        return environment_lines(variables)
    except EnvironmentFileError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"systemd_environment": systemd_environment}
