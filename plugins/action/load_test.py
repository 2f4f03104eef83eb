# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.golive.webstack.plugins.plugin_utils.progress import ProgressAction


class ActionModule(ProgressAction):
    """Shows the load test's progress."""

    size_of = ""
