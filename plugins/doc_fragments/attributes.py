# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What many modules say of themselves in the same words."""

    # Where the module runs.
    DOCUMENTATION = r"""
options: {}
attributes:
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

    DEBIAN = r"""
options: {}
attributes:
  platform:
    description: Where it runs.
    platforms: debian
    support: full
"""

    NO_DIFF = r"""
options: {}
attributes:
  diff_mode:
    description: There is nothing to show.
    support: none
"""
