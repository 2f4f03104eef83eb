#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_certificate
short_description: Certificates of web sites, made on the host or looked at
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Makes keys and certificates that sign themselves, so that a site has TLS before it has a
    certificate that browsers believe. They are made again when the names change or the end is near.
  - Tells of certificates until when they hold, and whether a server on this host really shows them.
  - Tells which certificates certbot has yet to fetch.
  - Uses the program C(openssl); needs no library on the host.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Tells what would be made.
    support: full
  diff_mode:
    description: Keys are never shown.
    support: none
  idempotent:
    description: A second run makes nothing.
    support: full
options:
  self_signed:
    description: Certificates to make. Their folders have to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      certificate:
        description: File of the certificate.
        type: path
        required: true
      key:
        description: File of the key, readable by root only.
        type: path
        required: true
      names:
        description: Host names and addresses that it is for.
        type: list
        elements: str
        required: true
      days:
        description: For how long.
        type: int
        default: 365
  inspect:
    description: Certificates to look at.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What to call it in the result.
        type: str
        required: true
      path:
        description: File of the certificate.
        type: path
        required: true
      port:
        description: Port on which a server of this host has to show it. 0 for not asking.
        type: int
        default: 0
      server_name:
        description: Host name to ask for.
        type: str
        default: localhost
  acme:
    description: Certificates that certbot keeps.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: certbot's name of it.
        type: str
        required: true
      names:
        description: Host names that it has to be for.
        type: list
        elements: str
        required: true
      server:
        description: Address of the ACME server that it has to be from.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Have a certificate before the real one is there
  golive.webstack.nginx_certificate:
    self_signed:
      - certificate: /etc/ssl/shop.pem
        key: /etc/ssl/private/shop.key
        names: [shop.example]

- name: Look until when the certificate holds
  golive.webstack.nginx_certificate:
    inspect:
      - name: shop
        path: /etc/ssl/shop.pem
        port: 443
        server_name: shop.example
  register: seen
"""

RETURN = r"""
made:
  description: Certificates that were made, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/ssl/shop.pem]
certificates:
  description: What O(inspect) asked for.
  returned: success
  type: list
  elements: dict
  sample:
    - name: shop
      path: /etc/ssl/shop.pem
      not_after: "2027-11-22T10:00:00+00:00"
      days_left: 364
      names: [shop.example]
      self_made: true
      served: true
acme_due:
  description: Names in O(acme) that certbot has yet to fetch, or to fetch anew.
  returned: success
  type: list
  elements: str
  sample: []
"""

import datetime

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.nginx_certificate import (
    UTC,
    CertificateError,
    acme_due,
    is_served,
    make_self_made,
    needs_self_made,
    read,
)


def _list(**options):
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def _look(one, now):
    told = read(one["path"])
    served = None
    if one["port"]:
        served = is_served(one["path"], one["port"], one["server_name"])
    return {
        "name": one["name"],
        "path": one["path"],
        "not_after": told.not_after.isoformat(),
        "days_left": told.days_left(now),
        "names": list(told.names),
        "self_made": told.self_made,
        "served": served,
    }


def main():
    path = {"type": "path", "required": True}
    names = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "self_signed": _list(
                certificate=path,
                key=dict(path, no_log=False),
                names=names,
                days={"type": "int", "default": 365},
            ),
            "inspect": _list(
                name={"type": "str", "required": True},
                path=path,
                port={"type": "int", "default": 0},
                server_name={"type": "str", "default": "localhost"},
            ),
            "acme": _list(
                name={"type": "str", "required": True},
                names=names,
                server={"type": "str", "required": True},
            ),
        },
        supports_check_mode=True,
    )
    now = datetime.datetime.now(UTC)
    made = []
    try:
        for one in module.params["self_signed"]:
            if not one["names"]:
                raise CertificateError(f"{one['certificate']}: names is empty; give one.")
            if needs_self_made(one["certificate"], one["key"], one["names"], one["days"], now):
                made.append(one["certificate"])
                if not module.check_mode:
                    make_self_made(one["certificate"], one["key"], one["names"], one["days"])
        certificates = [_look(one, now) for one in module.params["inspect"]]
        due = [one["name"] for one in module.params["acme"] if acme_due(**one)]
    except CertificateError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror or error}.")
    module.exit_json(changed=bool(made), made=made, certificates=certificates, acme_due=due)


if __name__ == "__main__":
    main()
