#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release_lock
short_description: One deployment at a time on a host
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Takes or lets go of the lock of an application that the role
    P(golive.webstack.gunicorn_app#role) deploys. The lock belongs to a run of Ansible, and a
    task of the same run that takes it again refreshes it.
  - A lock that another run holds is not an error of this module; look at RV(acquired).
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Tells whether the lock could be taken, and takes nothing.
    support: full
  idempotent:
    description: Taking what this run has, or letting go of what it has not, changes nothing.
    support: full
options:
  name:
    description: The application.
    type: str
    required: true
  home:
    description: Its folder, made if it is not there.
    type: path
    required: true
  state:
    description: Whether to have the lock, or to let go of it.
    type: str
    choices: [present, absent]
    default: present
  run:
    description: This run, as the lookup P(golive.webstack.this_run#lookup) tells it.
    type: dict
    required: true
  by:
    description: Who holds it, for people.
    type: str
    default: ""
  purpose:
    description: What for.
    type: str
    default: ""
  timeout:
    description: Seconds after which a lock that was not refreshed is taken over.
    type: int
    default: 900
  break_id:
    description: The id of a lock that is to be broken.
    type: str
    default: ""
  running:
    description: >-
      The processes of this control node, as the lookup P(golive.webstack.this_run#lookup) tells
      them. The lock of a process of this node that is not among them is taken over.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Take the lock
  golive.webstack.app_release_lock:
    name: shop
    home: /srv/shop
    run: "{{ lookup('golive.webstack.this_run') }}"
    by: ann@control
    purpose: deploy
  register: lock
  failed_when: not lock.acquired
"""

RETURN = r"""
acquired:
  description: Whether this run has the lock; with O(state=absent) always true.
  type: bool
  returned: success
held:
  description: The lock that is there, with its holder, purpose, age and id; null if there is none.
  type: dict
  returned: success
nested:
  description: Whether this run had the lock before.
  type: bool
  returned: success
refusal:
  description: What to tell who can't have it; empty if RV(acquired).
  type: str
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.app_release import lock
from ansible_collections.golive.webstack.plugins.module_utils.app_release.errors import (
    ReleaseError,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.layout import Layout


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "run": {"type": "dict", "required": True},
            "by": {"type": "str", "default": ""},
            "purpose": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 900},
            "break_id": {"type": "str", "default": ""},
            "running": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    path = Layout(given["name"], given["home"]).lock
    run = given["run"]
    now = time.time()
    try:
        if given["state"] == "absent":
            lock.release(path, str(run.get("id")), module.check_mode)
            module.exit_json(changed=False, acquired=True, nested=False, held=None, refusal="")
        wanted = lock.Lock(
            id=str(run.get("id")),
            by=given["by"] or f"{run.get('user')}@{run.get('node')}",
            purpose=given["purpose"],
            place=str(run.get("place") or ""),
            pid=int(run.get("pid") or 0),
            started=int(run.get("started") or 0),
        )
        outcome = lock.acquire(
            path,
            wanted,
            given["timeout"],
            given["break_id"],
            given["running"],
            now,
            module.check_mode,
        )
    except ReleaseError as error:
        module.fail_json(msg=error.told())
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror or error}.")
    for warning in outcome.warnings:
        module.warn(warning)
    held = outcome.held
    module.exit_json(
        # The lock is gone at the end of the run: it is no change of the host.
        changed=False,
        acquired=outcome.acquired,
        nested=outcome.acquired and not outcome.changed,
        held=held.told(now) if held else None,
        refusal=""
        if outcome.acquired or held is None
        else lock.refusal(held, now, "gunicorn_app_lock_break"),
    )


if __name__ == "__main__":
    main()
