#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: request_stats
short_description: Errors and response times from nginx's access log
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Reads an access log of nginx, in the timed format or the JSON format of the role
    P(golive.webstack.nginx#role), and tells how many requests there were, how many failed and how
    long they took.
  - Reads only what came after an offset or a time. The place of a time is found by halving, so
    the size of the log does not matter. When the log was rotated since, the rest of the old file,
    which is beside it with C(.1) at its end, is read too.
  - A request failed when its status is 500 or more. A connection that became a WebSocket (status
    101) is counted and has no time.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only reads.
    support: full
  idempotent:
    description: Never changes anything; what it tells goes with the log.
    support: full
options:
  path:
    description: The log. One that isn't there has no requests.
    type: path
    required: true
  since_offset:
    description:
      - Byte to begin at, as an earlier call gave it as RV(offset).
      - Without this and O(since_seconds) the whole log is read.
    type: int
  since_inode:
    description:
      - File that O(since_offset) is in, as an earlier call gave it as RV(inode). Without it a
        rotation is noticed only while the new file is shorter than the offset.
    type: int
    default: 0
  since_seconds:
    description:
      - Read what is younger than this. V(0) reads nothing and gives the log's end, for a
        later call.
    type: float
  only_path_prefix:
    description: Count only requests whose path begins with one of these.
    type: list
    elements: str
    default: []
  ignore_path_prefix:
    description: Count no requests whose path begins with one of these.
    type: list
    elements: str
    default: []
  ignore_status:
    description: Count no requests with these status codes.
    type: list
    elements: int
    default: []
  only_release:
    description: Count only requests that this release answered, as the site names it.
    type: str
    default: ""
  watch_seconds:
    description:
      - Go on reading for this long, and tell then. Needs O(since_offset).
      - Ends at once when O(stop_error_percent) is passed.
    type: float
    default: 0
  stop_error_percent:
    description: Errors in a hundred requests, above which watching ends.
    type: float
    default: 100
  stop_requests:
    description: Watching is not ended by errors before so many requests were counted.
    type: int
    default: 20
"""

EXAMPLES = r"""
- name: Note where the log ends
  golive.webstack.request_stats:
    path: /var/log/nginx/shop_access.log
    since_seconds: 0
  register: before

- name: Count what came since
  golive.webstack.request_stats:
    path: /var/log/nginx/shop_access.log
    since_offset: "{{ before.offset }}"
    since_inode: "{{ before.inode }}"
    watch_seconds: 30
    stop_error_percent: 5
  register: watched
"""

RETURN = r"""
requests:
  description: Requests that were counted.
  returned: success
  type: int
  sample: 1200
errors:
  description: Those with a status of 500 or more.
  returned: success
  type: int
  sample: 3
error_percent:
  description: Errors in a hundred requests; 0 without requests.
  returned: success
  type: float
  sample: 0.25
p50_ms:
  description: Half of the requests were answered within this many milliseconds; null without any.
  returned: success
  type: float
  sample: 12.0
p95_ms:
  description: As RV(p50_ms), for 95 in a hundred.
  returned: success
  type: float
  sample: 80.0
p99_ms:
  description: As RV(p50_ms), for 99 in a hundred.
  returned: success
  type: float
  sample: 140.0
by_upstream:
  description: >-
    The same figures for each address that answered; C(nginx) has what nginx answered itself.
  returned: success
  type: dict
  sample: {"unix:/run/shop.sock": {"requests": 1200, "errors": 3}}
by_release:
  description: The same figures for each release that served, as the site names them.
  returned: success
  type: dict
  sample: {"stable": {"requests": 1100}, "canary": {"requests": 100}}
by_status:
  description: Requests for each status code, as text.
  returned: success
  type: dict
  sample: {"200": 1197, "502": 3}
unreadable:
  description: Lines in another format, which were not counted.
  returned: success
  type: int
  sample: 0
offset:
  description: Where the next call has to begin.
  returned: success
  type: int
  sample: 240120
inode:
  description: The file that RV(offset) is in.
  returned: success
  type: int
  sample: 131845
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.request_stats import (
    Position,
    RequestStatsError,
    Stats,
    count,
    end_of,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "since_offset": {"type": "int"},
            "since_inode": {"type": "int", "default": 0},
            "since_seconds": {"type": "float"},
            "only_path_prefix": {"type": "list", "elements": "str", "default": []},
            "ignore_path_prefix": {"type": "list", "elements": "str", "default": []},
            "ignore_status": {"type": "list", "elements": "int", "default": []},
            "only_release": {"type": "str", "default": ""},
            "watch_seconds": {"type": "float", "default": 0},
            "stop_error_percent": {"type": "float", "default": 100},
            "stop_requests": {"type": "int", "default": 20},
        },
        mutually_exclusive=[("since_offset", "since_seconds")],
        supports_check_mode=True,
    )
    given = module.params
    only = tuple(given["only_path_prefix"])
    ignored = tuple(given["ignore_path_prefix"])
    statuses = frozenset(given["ignore_status"])

    def wanted(request):
        return (
            (not only or request.path.startswith(only))
            and (not ignored or not request.path.startswith(ignored))
            and request.status not in statuses
            and given["only_release"] in ("", request.release)
        )

    seconds, offset = given["since_seconds"], given["since_offset"]
    if (seconds is not None and seconds < 0) or (offset is not None and offset < 0):
        module.fail_json(msg="since_seconds and since_offset can't be below 0.")
    if given["watch_seconds"] > 0 and offset is None:
        module.fail_json(msg="watch_seconds needs since_offset.")
    end = time.monotonic() + given["watch_seconds"]
    pause = max(1.0, given["watch_seconds"] / 50)
    try:
        if seconds == 0:
            stats, position = Stats(), end_of(given["path"])
        elif seconds is not None:
            stats, position = count(given["path"], None, time.time() - seconds, wanted)
        else:
            since = Position(offset or 0, given["since_inode"])
            stats, position = count(given["path"], since, None, wanted)
            while (left := end - time.monotonic()) > 0 and not (
                stats.total.requests >= max(given["stop_requests"], 1)
                and stats.total.errors * 100 > given["stop_error_percent"] * stats.total.requests
            ):
                time.sleep(min(pause, left))
                stats, position = count(given["path"], since, None, wanted)
    except RequestStatsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        by_upstream={name: group.told() for name, group in sorted(stats.by_upstream.items())},
        by_release={name: group.told() for name, group in sorted(stats.by_release.items())},
        by_status={str(status): number for status, number in sorted(stats.by_status.items())},
        unreadable=stats.unreadable,
        offset=position.offset,
        inode=position.inode,
        **stats.total.told(),
    )


if __name__ == "__main__":
    main()
