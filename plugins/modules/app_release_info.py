#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release_info
short_description: Releases, slots, lock and history of an application on a host
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Tells what the role P(golive.webstack.gunicorn_app#role) keeps on a host. Changes nothing.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only reads.
    support: full
  idempotent:
    description: It changes nothing.
    support: full
options:
  name:
    description: The application.
    type: str
    required: true
  home:
    description: Its folder.
    type: path
    required: true
  history:
    description: How many events of the history to tell, the newest first.
    type: int
    default: 20
"""

EXAMPLES = r"""
- name: Look at the releases
  golive.webstack.app_release_info:
    name: shop
    home: /srv/shop
  register: shop
"""

RETURN = r"""
status:
  description: >-
    The keys live, previous_good, releases (each with id, built, live_at, good, live, schema),
    slots, canary, lock and history.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.app_release import status
from ansible_collections.golive.webstack.plugins.module_utils.app_release.errors import (
    ReleaseError,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.layout import Layout


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "history": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        told = status.status(Layout(given["name"], given["home"]), given["history"])
    except (ReleaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, status=told)


if __name__ == "__main__":
    main()
