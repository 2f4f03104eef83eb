#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_precompress
short_description: Compressed files beside the static files of a web site
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Writes C(FILE.gz), and C(FILE.br) where the program C(brotli) is, beside each text file of
    folders, so that nginx sends them without compressing for each request.
  - A file is compressed again when its time of change is another. nginx does not compare the two,
    so run this whenever files change in place.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Tells which files would be written.
    support: full
  diff_mode:
    description: Compressed files are not shown.
    support: none
  idempotent:
    description: A second run writes nothing.
    support: full
options:
  folders:
    description: Folders, with all below them. One that isn't there is left out.
    type: list
    elements: path
    required: true
  suffixes:
    description: Ends of the names of files that are worth it.
    type: list
    elements: str
    default: [.css, .html, .js, .json, .map, .mjs, .svg, .txt, .wasm, .xml]
  minimum_bytes:
    description: Smaller files are left as they are.
    type: int
    default: 1024
"""

EXAMPLES = r"""
- name: Compress the files of a release
  golive.webstack.nginx_precompress:
    folders: [/srv/shop/current/static]
"""

RETURN = r"""
written:
  description: Compressed files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/srv/shop/current/static/app.js.gz]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.nginx_precompress import (
    SUFFIXES,
    PrecompressError,
    jobs,
    run,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "path", "required": True},
            "suffixes": {"type": "list", "elements": "str", "default": list(SUFFIXES)},
            "minimum_bytes": {"type": "int", "default": 1024},
        },
        supports_check_mode=True,
    )
    methods = ["gzip"] + (["brotli"] if module.get_bin_path("brotli") else [])
    written = []
    try:
        for folder in module.params["folders"]:
            if not os.path.isdir(folder):
                continue
            folder = os.path.realpath(folder)
            found = jobs(folder, methods, module.params["suffixes"], module.params["minimum_bytes"])
            for job in found:
                if not module.check_mode:
                    run(job)
                written.append(job.target)
    except PrecompressError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror or error}.")
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
