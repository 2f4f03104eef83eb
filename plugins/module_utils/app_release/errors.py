# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a release's life raise."""

from __future__ import annotations


class ReleaseError(Exception):
    """What can't be done, where, and what to do; `log` is what the release itself said last."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log

    def told(self) -> str:
        text = str(self)
        return f"{text}\nIts last lines:\n{self.log}" if self.log else text
