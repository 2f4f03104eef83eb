#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_sample
short_description: Measure once a second what a host does while something else runs
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Begins to measure in a process of its own, and ends it and returns what it measured. Processors
    and memory always; PostgreSQL's connections, Redis's hits, nginx's connections and the requests
    that wait for a worker where it is told how to ask.
extends_documentation_fragment:
  - golive.webstack.attributes.debian
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Measures nothing.
    support: full
  idempotent:
    description: Each start begins anew.
    support: none
options:
  state:
    description: Begin, or end and return.
    type: str
    required: true
    choices: [started, stopped]
  path:
    description: Where the figures are kept meanwhile.
    type: path
    default: /run/golive-sample.jsonl
  seconds:
    description: After which it ends by itself, if nobody ends it.
    type: int
    default: 3600
  postgres_port:
    description: Port of the PostgreSQL server on this host, asked as the system user postgres.
    type: int
  redis_access:
    description: The file in which the role redis has noted how its servers are reached.
    type: path
  nginx_status:
    description: Address of nginx's stub_status.
    type: str
  listen:
    description: What the application listens on, a unix socket's path or address:port.
    type: str
"""

EXAMPLES = r"""
- name: Begin to measure
  golive.webstack.host_sample:
    state: started
    postgres_port: 5432

- name: Tell what was measured
  golive.webstack.host_sample:
    state: stopped
  register: measured
"""

RETURN = r"""
samples:
  description:
    - One entry a second, with C(at) (seconds of the epoch), C(cpu_percent), C(memory_percent), and
      of what was asked C(connections), C(max_connections), C(waiting) (for locks), C(slowest_ms),
      C(hits), C(misses), C(proxy_connections), C(queued).
  type: list
  elements: dict
  returned: when state is stopped
not_measured:
  description: What could not be asked, and why.
  type: list
  elements: str
  returned: when state is started
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.load_test import sample


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["started", "stopped"]},
            "path": {"type": "path", "default": "/run/golive-sample.jsonl"},
            "seconds": {"type": "int", "default": 3600},
            "postgres_port": {"type": "int"},
            "redis_access": {"type": "path"},
            "nginx_status": {"type": "str"},
            "listen": {"type": "str"},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=False, samples=[], not_measured=[])
    try:
        if given["state"] == "stopped":
            module.exit_json(changed=False, samples=sample.stop(given["path"]))
        failed = sample.start(given["path"], given["seconds"], given)
    except OSError as error:
        module.fail_json(msg=f"{error.filename or given['path']}: {error.strerror or error}.")
    module.exit_json(changed=False, not_measured=failed)


if __name__ == "__main__":
    main()
