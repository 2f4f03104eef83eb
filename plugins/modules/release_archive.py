#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_archive
short_description: Pack an application's folder, named by its content
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Packs a folder into a C(tar.gz) that is the same for the same content, and computes an id from
    names, modes and contents. Times, owners and the compression don't change the id.
  - Meant to run once on the control node, with C(delegate_to=localhost) and C(run_once=true).
  - Modes become 0644, or 0755 for folders and for files that their owner may execute. Symbolic
    links are kept if they stay inside the folder, and are an error if they don't.
notes:
  - RV(ignore:changed) is always false. The module makes at most a file on the control node that
    the caller removes again; whether a host changes is decided by what unpacks it there.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Computes the id and packs nothing; RV(path) is null.
    support: full
  diff_mode:
    description: There is no former state to compare with.
    support: none
  idempotent:
    description: The same content always gives the same id and the same archive.
    support: full
options:
  src:
    description: The folder to pack.
    type: path
    required: true
  dest_dir:
    description:
      - Folder for the archive, made if missing. Not set means a new temporary folder, which the
        caller removes.
    type: path
  exclude:
    description:
      - Names or paths that are left out, with C(*), C(?) and C([]) as in a shell. A pattern without
        a slash is for any name at any depth; one with a slash is for the path from O(src).
      - The default leaves out what is no part of a release, such as databases and C(.env) files,
        which may hold secrets. A list of your own replaces it.
    type: list
    elements: str
    default:
      - .git
      - .venv
      - venv
      - __pycache__
      - "*.pyc"
      - node_modules
      - instance
      - "*.db"
      - "*.sqlite3"
      - "*.sqlite"
      - "*.db-wal"
      - "*.db-shm"
      - .env
      - .pytest_cache
      - .mypy_cache
      - .ruff_cache
      - .tox
  pack:
    description: Whether to make the archive. V(false) only computes the id, which is cheap.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Id of the release
  golive.webstack.release_archive:
    src: "{{ playbook_dir }}/../app"
    pack: false
  delegate_to: localhost
  run_once: true
  register: release

- name: Pack it
  golive.webstack.release_archive:
    src: "{{ playbook_dir }}/../app"
    dest_dir: /tmp/releases
  delegate_to: localhost
  run_once: true
  register: release
"""

RETURN = r"""
release_id:
  description: The first 12 digits of RV(sha256).
  type: str
  returned: success
  sample: 3f9a1c0b77de
sha256:
  description: SHA-256 over names, modes and contents; hexadecimal.
  type: str
  returned: success
files:
  description: Number of files packed, without folders and links.
  type: int
  returned: success
content_size:
  description: Bytes of the files' contents.
  type: int
  returned: success
path:
  description: Path of the archive; null if nothing was packed.
  type: str
  returned: success
archive_sha256:
  description: SHA-256 of the archive file, for its transfer; null if nothing was packed.
  type: str
  returned: success
archive_size:
  description: Bytes of the archive file; null if nothing was packed.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.release_archive import (
    DEFAULT_EXCLUDE,
    ArchiveError,
    make_archive,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest_dir": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": DEFAULT_EXCLUDE},
            "pack": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        archive = make_archive(
            module.params["src"],
            module.params["exclude"],
            module.params["dest_dir"],
            module.params["pack"] and not module.check_mode,
        )
    except ArchiveError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **vars(archive))


if __name__ == "__main__":
    main()
