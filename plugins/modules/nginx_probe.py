#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_probe
short_description: Asks all web sites of a host for an answer in one task
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Asks each site on the loopback address, by its own host name, and again for some seconds where
    there is no answer. Fails with all that was wrong.
  - Any status but 400 and 500 is an answer, as 502 to 504 tell of the application behind nginx.
    For more than that there is M(ansible.builtin.uri).
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only asks.
    support: full
  idempotent:
    description: Never changes anything.
    support: full
options:
  sites:
    description: What to ask.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the site, for the result.
        type: str
        required: true
      port:
        description: TCP port for plain HTTP.
        type: int
        default: 80
      host:
        description: Host name to ask for.
        type: str
        default: localhost
      path:
        description: Path to ask for.
        type: str
        default: /
  timeout:
    description: Seconds for one answer.
    type: float
    default: 15
  retries:
    description: How often to ask again.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: See that each site answers
  golive.webstack.nginx_probe:
    sites:
      - name: shop
        host: shop.example
        path: /health
"""

RETURN = r"""
answers:
  description: The status of each site.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "shop", "status": 200, "problem": ""}]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.nginx_probe import Site, ask_all


def main():
    module = AnsibleModule(
        argument_spec={
            "sites": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 80},
                    "host": {"type": "str", "default": "localhost"},
                    "path": {"type": "str", "default": "/"},
                },
            },
            "timeout": {"type": "float", "default": 15.0},
            "retries": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    answers = ask_all(
        [Site(**site) for site in module.params["sites"]],
        module.params["timeout"],
        module.params["retries"],
    )
    told = [asdict(answer) for answer in answers]
    problems = [f"{answer.name}: {answer.problem}" for answer in answers if answer.problem]
    if problems:
        module.fail_json(
            msg="nginx does not serve all sites. "
            + "; ".join(problems)
            + ". See /var/log/nginx/error.log and the site's own error log beside it.",
            answers=told,
        )
    module.exit_json(changed=False, answers=told)


if __name__ == "__main__":
    main()
