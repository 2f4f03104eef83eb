#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_tls
short_description: Certificate and key for PostgreSQL, proved before they are put in place
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Puts a certificate, its key and an authority's certificate into a folder of the server's own,
    where only PostgreSQL can read the key. Each is given as text or as a file on this host, which
    stays where it is.
  - Before that, both are proved by a TLS handshake in memory. A key of another certificate, a
    certificate that has expired or isn't valid yet, a key with a passphrase and an unreadable
    file are refused, and nothing is changed.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Proves the pair, and tells what would change.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  certificate:
    description: Certificate with its chain in PEM form, or the path of a file that has it.
    type: str
    required: true
  key:
    description: Private key in PEM form, or the path of a file that has it.
    type: str
    required: true
  ca:
    description: Certificates of authorities whose client certificates count, or a file's path.
    type: str
    default: ""
  directory:
    description: Folder for C(server.crt), C(server.key) and C(root.crt).
    type: path
    required: true
  owner:
    description: User and group that they belong to.
    type: str
    default: postgres
  setting:
    description: How errors call the settings, before C(_certificate), C(_key) and C(_ca).
    type: str
    default: postgres_tls
  missing_ok:
    description: Do nothing if a file isn't there, as in check mode on a bare host.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Give PostgreSQL its certificate
  golive.webstack.postgres_tls:
    certificate: /etc/ssl/db.example.org.crt
    key: /etc/ssl/private/db.example.org.key
    directory: /etc/postgresql/17/main/golive-tls
"""

RETURN = r"""
changed_paths:
  description: Files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/postgresql/17/main/golive-tls/server.crt]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.config_files import (
    ConfigFilesError,
    Wanted,
    apply,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.tls import (
    FILES,
    is_content,
    prepare,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "certificate": {"type": "str", "required": True},
            # Not no_log: a path is no secret, and masking it would hide what an error is about.
            "key": {"type": "str", "required": True, "no_log": False},
            "ca": {"type": "str", "default": ""},
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "setting": {"type": "str", "default": "postgres_tls"},
            "missing_ok": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    key = given["key"]
    if is_content(key):
        module.no_log_values.add(key)
        given["key"] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    owner = {"owner": given["owner"], "group": given["owner"]}
    try:
        contents = prepare(
            {"certificate": given["certificate"], "key": key, "ca": given["ca"]},
            given["missing_ok"],
            given["setting"],
        )
        wanted = [Wanted(given["directory"], mode="0750", **owner)]
        for name, content in contents.items():
            mode = "0600" if name == FILES["key"] else "0640"
            path = os.path.join(given["directory"], name)
            # Beside its place at once, then renamed: PostgreSQL may read at any moment.
            wanted.append(Wanted(path, content.decode(), mode=mode, secret=True, **owner))
        changes = apply(wanted if contents else [], module.check_mode)
    except (PostgresError, ConfigFilesError, UnicodeDecodeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.path for change in changes],
        invocation={"module_args": {**given, "key": given["key"] if not is_content(key) else ""}},
    )


if __name__ == "__main__":
    main()
