# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the migration; main() turns it into fail_json."""

from __future__ import annotations

from typing import Any


class MigrationError(Exception):
    """What is wrong, where, and what to set. `details` goes into the module's result."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
