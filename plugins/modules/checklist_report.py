#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checklist_report
short_description: Make one checklist of what the hosts have told
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Merges the results of M(golive.webstack.checklist_host). An entry is proved only if it is on
    each host that it concerns; a host that gave no answer fails its entries.
  - Writes the checklist as JSON, Markdown and one HTML page that needs nothing else, and prunes
    older ones of its folder. It does not fail because of a failed entry, so that a playbook can
    report first.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Merges, and writes nothing.
    support: full
  idempotent:
    description: Each checklist is a file of its own. What it is about is not changed.
    support: partial
options:
  entries:
    description: The entries, as M(golive.webstack.checklist_host) takes them.
    type: list
    elements: dict
    required: true
  hosts:
    description: The hosts of each group that an entry can name in C(hosts).
    type: dict
    required: true
  results:
    description: RV(golive.webstack.checklist_host#module:results) of each host.
    type: dict
    required: true
  sign_offs:
    description: For entries that people decide, a name or a mapping of C(name) and C(date).
    type: dict
    default: {}
  not_applicable:
    description: Entries that are about nothing here, each with the reason.
    type: dict
    default: {}
  application:
    description: The application's name.
    type: str
    required: true
  release:
    description: The release that is live.
    type: str
    default: ""
  url:
    description: The site's address.
    type: str
    default: ""
  contexts:
    description: The context of each host, kept in the JSON.
    type: dict
    default: {}
  folder:
    description: Where checklists are kept, each named by its release and time.
    type: path
  path:
    description: Further files to write, without their endings.
    type: path
  keep:
    description: Checklists that are kept in the folder.
    type: int
    default: 20
  asked_at:
    description: When the hosts were asked, in seconds of the epoch.
    type: float
    required: true
"""

EXAMPLES = r"""
- name: Make the checklist
  golive.webstack.checklist_report:
    entries: "{{ entries }}"
    hosts: {all: [shop1], app: [shop1]}
    results: "{{ {'shop1': looked.results} }}"
    application: shop
    asked_at: "{{ now(utc=true).timestamp() }}"
    folder: /srv/shop/checklists
  register: checklist
"""

RETURN = r"""
counts:
  description: How many entries are in each state, C(signed) and in C(all).
  type: dict
  returned: success
line:
  description: The counts in words.
  type: str
  returned: success
failures:
  description: Each failed entry, why, and what to do.
  type: list
  elements: str
  returned: success
html:
  description: Path of the page that was written.
  type: str
  returned: success
"""

import glob
import json
import os
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.checklist import (
    checks,
    model,
    report,
)


def _write(path, text, mode):
    folder, name = os.path.split(path)
    handle, partial = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(partial, mode)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _keep(stem, texts, mode):
    for ending, text in texts.items():
        _write(f"{stem}.{ending}", text, mode)
    return f"{stem}.html"


def _prune(folder, keep):
    kept = sorted(glob.glob(os.path.join(glob.escape(folder), "*.json")), key=os.path.getmtime)
    for old in kept[: -max(1, keep)]:
        for ending in ("json", "md", "html"):
            if os.path.exists(f"{old[:-5]}.{ending}"):
                os.unlink(f"{old[:-5]}.{ending}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "entries": {"type": "list", "elements": "dict", "required": True},
            "hosts": {"type": "dict", "required": True},
            "results": {"type": "dict", "required": True},
            "sign_offs": {"type": "dict", "default": {}},
            "not_applicable": {"type": "dict", "default": {}},
            "application": {"type": "str", "required": True},
            "release": {"type": "str", "default": ""},
            "url": {"type": "str", "default": ""},
            "contexts": {"type": "dict", "default": {}},
            "folder": {"type": "path"},
            "path": {"type": "path"},
            "keep": {"type": "int", "default": 20},
            "asked_at": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    wrong = model.problems(given["entries"], checks.CHECKS)
    if wrong:
        module.fail_json(msg="The entries can't be used. " + " ".join(wrong))
    moment = time.gmtime(given["asked_at"])
    document = report.merge(
        given["entries"],
        given["hosts"],
        given["results"],
        given["sign_offs"],
        given["not_applicable"],
        {
            "application": given["application"],
            "release": given["release"] or "none",
            "url": given["url"],
            "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", moment),
            "contexts": given["contexts"],
        },
    )
    texts = {
        "json": json.dumps(document, indent=1, sort_keys=True) + "\n",
        "md": report.markdown(document),
        "html": report.page(document),
    }
    written = ""
    try:
        if given["folder"] and not module.check_mode:
            os.makedirs(given["folder"], mode=0o700, exist_ok=True)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", moment)
            stem = os.path.join(given["folder"], f"{given['release'] or 'none'}-{stamp}")
            written = _keep(stem, texts, 0o600)
            _prune(given["folder"], given["keep"])
        if given["path"] and not module.check_mode:
            written = _keep(given["path"], texts, 0o644)
    except OSError as error:
        module.fail_json(msg=f"{error.filename or given['folder']}: {error.strerror}.")
    module.exit_json(
        changed=False,
        counts=document["counts"],
        line=report.count_line(document),
        failures=report.failed_lines(document),
        html=written,
    )


if __name__ == "__main__":
    main()
