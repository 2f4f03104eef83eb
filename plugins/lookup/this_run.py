# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: this_run
short_description: Which run of Ansible this is
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Tells the process on the control node that all tasks of this run belong to. A module can't know
    it, as it is started by a process that lives for one task alone.
options:
  _terms:
    description: Nothing, or V(processes) for all processes of the control node.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Tell who runs this
  ansible.builtin.debug:
    msg: "{{ lookup('golive.webstack.this_run').user }}"
"""

RETURN = r"""
_raw:
  description: >-
    Without a term a dictionary with the keys id, user, node, place, pid and started. With the term
    V(processes) a list of texts, each a process's number and begin.
  type: list
  elements: raw
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.golive.webstack.plugins.module_utils.app_release.run_identity import (
    processes,
    this_run,
)


class LookupModule(LookupBase):  # type: ignore[misc, unused-ignore]
    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[Any]:
        if not terms:
            return [dict(vars(this_run()))]
        if list(terms) != ["processes"]:
            raise AnsibleLookupError("this_run takes no term, or the term processes")
        return [processes()]
