#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_config
short_description: nginx's files as one set, tested together and loaded for certain
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Writes files below nginx's folder, and removes those that it wrote earlier and that are no
    longer given. A list of what it wrote is kept in O(manifest).
  - The whole set, with the files of others in that folder, is laid out in a temporary folder and
    tested by C(nginx -t) before any file takes its place. A set that is refused changes nothing.
  - A running nginx is reloaded, never restarted, when a file changed or when a worker is older
    than a file, as after a run that was killed.
  - It waits until new workers serve and no old one takes connections, and fails with what nginx's
    error log says when nginx keeps its old files.
attributes:
  check_mode:
    description: Tells what would change; nginx's own test isn't run.
    support: full
  diff_mode:
    description: Shows the content of O(files). Give no secrets there.
    support: full
  idempotent:
    description: A second run changes nothing and doesn't reload.
    support: full
  platform:
    description: Where it runs.
    platforms: linux
    support: full
options:
  files:
    description: The files, all that this module is to keep there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path below O(root). Missing folders are made.
        type: path
        required: true
      content:
        description: The whole text of the file.
        type: str
        required: true
      source:
        description: The setting that it comes from, named when nginx refuses the file.
        type: str
        default: ""
  absent:
    description: Files and links below O(root) that must not be there.
    type: list
    elements: path
    default: []
  watched:
    description: Other files that nginx reads, such as certificates; a newer one asks for a reload.
    type: list
    elements: path
    default: []
  root:
    description: nginx's folder.
    type: path
    default: /etc/nginx
  manifest:
    description: Where the list of written files is kept.
    type: path
    default: /etc/nginx/golive/manifest.json
  binary:
    description: nginx's program.
    type: str
    default: nginx
  unit:
    description: nginx's unit.
    type: str
    default: nginx.service
  error_log:
    description: nginx's error log.
    type: path
    default: /var/log/nginx/error.log
  reload_timeout:
    description: Seconds that nginx has to take new files.
    type: float
    default: 30
  wait:
    description:
      - Seconds to wait until the workers of before the reload have answered all that they had.
        Those that have not by then go on, and are counted in RV(still_leaving).
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Set a site up
  golive.webstack.nginx_config:
    files:
      - path: /etc/nginx/sites-enabled/shop.conf
        content: "{{ lookup('ansible.builtin.template', 'shop.conf.j2') }}"
        source: the template shop.conf.j2
    absent: [/etc/nginx/sites-enabled/default]
"""

RETURN = r"""
changed_paths:
  description: Files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/sites-enabled/shop.conf]
removed_paths:
  description: Files that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
reloaded:
  description: Whether nginx was reloaded and serves with these files.
  returned: success
  type: bool
  sample: true
stale:
  description: Whether nginx was older than files that this run did not change.
  returned: success
  type: bool
  sample: false
still_leaving:
  description: Workers of before that were still answering when O(wait) ended.
  returned: success
  type: int
  sample: 0
active:
  description: Whether nginx ran when the module was called.
  returned: success
  type: bool
  sample: true
enabled:
  description: Whether nginx starts at boot.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.nginx_config import (
    File,
    NginxConfigError,
    Settings,
    apply,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "source": {"type": "str", "default": ""},
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
            "watched": {"type": "list", "elements": "path", "default": []},
            "root": {"type": "path", "default": "/etc/nginx"},
            "manifest": {"type": "path", "default": "/etc/nginx/golive/manifest.json"},
            "binary": {"type": "str", "default": "nginx"},
            "unit": {"type": "str", "default": "nginx.service"},
            "error_log": {"type": "path", "default": "/var/log/nginx/error.log"},
            "reload_timeout": {"type": "float", "default": 30.0},
            "wait": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        outcome = apply(
            [File(**file) for file in given["files"]],
            given["absent"],
            given["watched"],
            Settings(
                root=given["root"],
                manifest=given["manifest"],
                binary=given["binary"],
                unit=given["unit"],
                error_log=given["error_log"],
                reload_timeout=given["reload_timeout"],
            ),
            check=module.check_mode,
            wait_seconds=given["wait"],
        )
    except NginxConfigError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror or error}.")
    module.exit_json(
        changed=bool(outcome.changes) or outcome.stale or outcome.reloaded,
        changed_paths=[one.path for one in outcome.changes if one.kind != "removed"],
        removed_paths=[one.path for one in outcome.changes if one.kind == "removed"],
        reloaded=outcome.reloaded,
        stale=outcome.stale,
        still_leaving=outcome.still_leaving,
        active=outcome.service.active,
        enabled=outcome.service.enabled,
        diff=[
            {
                "before_header": change.path,
                "after_header": change.path,
                "before": change.before,
                "after": change.after,
            }
            for change in outcome.changes
        ],
    )


if __name__ == "__main__":
    main()
