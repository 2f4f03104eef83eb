#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_host
short_description: What of PostgreSQL is on a host, and what its disk is
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Tells the clusters of Debian's packaging, the libraries that each version can load, the kind and
    size of the disk below C(/var/lib/postgresql), and roles and databases of running clusters.
  - Works on a host without PostgreSQL, where most of it is empty. Changes nothing.
extends_documentation_fragment:
  - golive.webstack.attributes.debian
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only looks.
    support: full
  idempotent:
    description: It only looks.
    support: full
options: {}
"""

EXAMPLES = r"""
- name: Look at PostgreSQL
  golive.webstack.postgres_host:
  become: true
  register: postgres_there
"""

RETURN = r"""
clusters:
  description: Major versions that have a configuration below C(/etc/postgresql), oldest first.
  returned: success
  type: list
  elements: str
  sample: ["15"]
libraries:
  description: For each installed major version the libraries that it finds by name.
  returned: success
  type: dict
  sample: {"15": [auto_explain, pg_stat_statements]}
disk:
  description: The kernel's word on the disk, V(ssd), V(hdd) or V(unknown).
  returned: success
  type: str
  sample: ssd
disk_total_mb:
  description: Size of the file system below C(/var/lib/postgresql).
  returned: success
  type: int
  sample: 40960
servers:
  description: For each cluster its version, port, roles and databases; empty where it doesn't run.
  returned: success
  type: dict
  sample: {"15": {"version": "15.8", "port": 5432, "roles": [postgres], "databases": [postgres]}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.host import look


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, **look())


if __name__ == "__main__":
    main()
