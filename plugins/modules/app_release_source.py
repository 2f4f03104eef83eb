#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release_source
short_description: An archive, a wheel or a requirement of an index as a folder
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Makes the folder that M(golive.webstack.release_archive) packs as a release. Meant to run once,
    on the control node.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It does the same, as its folder is a temporary one.
    support: full
  idempotent:
    description: The folder has to be new.
    support: none
options:
  source:
    description: Path or address of an archive, path of a wheel, or one version of a package.
    type: str
    required: true
  kind:
    description: Which of these it is.
    type: str
    required: true
    choices: [archive, wheel, index]
  checksum:
    description: SHA-256 of the archive or wheel.
    type: str
    default: ""
  requirements:
    description: The requirements file that is made of a wheel or a requirement.
    type: str
    default: requirements.txt
  dest:
    description: An empty folder.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Unpack an archive
  golive.webstack.app_release_source:
    source: /home/ann/shop-1.2.tar.gz
    kind: archive
    dest: /tmp/shop
  register: fetched
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The folder to pack.
  type: str
  returned: success
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.golive.webstack.plugins.module_utils.app_release import sources
from ansible_collections.golive.webstack.plugins.module_utils.app_release.errors import (
    ReleaseError,
)


def _local(given):
    """The path of an archive, fetched if it is an address."""
    source = given["source"]
    if "://" not in source:
        if not os.path.isfile(source):
            raise ReleaseError(f"gunicorn_app_source {source} is no file on the control node.")
        return source
    path = os.path.join(given["dest"], "fetched-" + source.rstrip("/").rpartition("/")[2])
    try:
        with open_url(source, timeout=60) as answer, open(path, "wb") as stream:
            shutil.copyfileobj(answer, stream)
    except Exception as error:
        raise ReleaseError(f"gunicorn_app_source {source} can't be fetched: {error}") from error
    return path


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True, "choices": ["archive", "wheel", "index"]},
            "checksum": {"type": "str", "default": ""},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    folder = os.path.join(given["dest"], "source")
    try:
        if given["kind"] == "index":
            path = sources.index(given["source"], folder, given["requirements"])
        else:
            local = _local(given)
            sources.check(local, given["checksum"])
            if given["kind"] == "wheel":
                path = sources.wheel(local, folder, given["requirements"])
            else:
                path = sources.unpack(local, folder)
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or given['source']}: {error.strerror or error}.")
    module.exit_json(changed=False, path=path)


if __name__ == "__main__":
    main()
