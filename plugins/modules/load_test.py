#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_test
short_description: Send requests to a site and measure its answers
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Runs locust with a profile and returns what was measured, by endpoint and by second. Whether
    that is good enough is for M(golive.webstack.load_test_report) to say.
  - Shows its progress every two seconds on a terminal and every ten seconds in a log.
requirements:
  - locust, in the Python that O(python) names
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: The profile is checked, and nothing is sent.
    support: full
  idempotent:
    description: Each run sends the load again.
    support: none
options:
  profile:
    description:
      - What is sent. C(base_url), C(host) (Host header), C(verify) (the certificate), C(users) at a
        time, C(spawn_rate) users a second, C(requests) in all (0 for no limit), C(seconds) at most,
        C(think) (least and most seconds between a user's requests), C(rate) (requests a minute of
        all users together; 0 for as fast as they can), C(timeout) in seconds, C(endpoints) and
        C(flow).
      - An endpoint has C(path), and may have C(name), C(method), C(weight), C(headers), C(json),
        C(form) and C(status) (those that count as good; 200 to 399 if not given).
      - The flow is what each user does once at first. A step is an endpoint, and may C(capture)
        variables from the answer, by their path in its JSON, or by C(regex:) and an expression with
        one group. They stand as C(${name}) in what comes after; C(${random}) is each user's own.
      - A step of the flow may instead have C(command), a program and its arguments, which runs on
        this host without a shell and as the user who runs the module. Its output is captured like
        an answer. It is run again until it ends with 0 and all is found, for C(wait) seconds, 10 if
        not given. It is no request, so nothing is told of it but its failure, as C(command) and its
        C(name). What stands in it can be seen in the list of processes.
    type: dict
    required: true
  python:
    description: The interpreter that has locust.
    type: path
    required: true
  program:
    description: The program that sends the load, as the role load_test installs it.
    type: path
    required: true
  progress_file:
    description: Set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: Send a hundred requests, ten at a time
  golive.webstack.load_test:
    python: /opt/golive/load_test/bin/python
    program: /opt/golive/load_test/golive_locust.py
    profile:
      base_url: http://127.0.0.1
      host: shop.example.com
      users: 10
      requests: 100
      endpoints:
        - {path: /, weight: 3}
        - {path: /api/items}
  register: load
"""

RETURN = r"""
figures:
  description:
    - Times in milliseconds (mean, median, min, max, deviation, p50, p95, p99), requests, failed,
      success_percent, requests_per_minute, seconds, and the same by endpoint and by second.
  type: dict
  returned: when requests were sent
began:
  description: When the load began, in seconds of the epoch.
  type: float
  returned: when requests were sent
profile:
  description: The profile with its defaults.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.load_test.figures import figures
from ansible_collections.golive.webstack.plugins.module_utils.load_test.run import (
    LoadTestError,
    complete,
    run,
    told,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "profile": {"type": "dict", "required": True},
            "python": {"type": "path", "required": True},
            "program": {"type": "path", "required": True},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    given = module.params
    # What Ansible shows of a call at a high verbosity: a flow may log in with a password.
    invocation = {"module_args": {**given, "profile": told(given["profile"])}}
    try:
        profile = complete(given["profile"])
        if module.check_mode:
            module.exit_json(changed=False, profile=told(profile), invocation=invocation)
        found = run(given["python"], given["program"], profile, given["progress_file"] or "")
    except LoadTestError as error:
        module.fail_json(msg=str(error), invocation=invocation)
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or given['python']}: {error.strerror or error}.",
            invocation=invocation,
        )
    module.exit_json(
        changed=False,
        profile=told(profile),
        began=found["began"],
        figures=figures(found),
        invocation=invocation,
    )


if __name__ == "__main__":
    main()
