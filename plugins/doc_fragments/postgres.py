# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that the PostgreSQL modules share."""

    # The connection, and what each module has.
    DOCUMENTATION = r"""
options:
  login_host:
    description:
      - Name or address of the PostgreSQL server.
      - Not set means the local socket.
    type: str
    default: ""
  login_port:
    description: TCP port of the server, and the number in its socket's name.
    type: int
    default: 5432
  login_user:
    description: Role to connect as.
    type: str
    required: true
  login_password:
    description:
      - Password of the role. Never shown, and never on a command line.
      - Not needed where C(pg_hba.conf) lets the role in without one, as with C(peer).
    type: str
    default: ""
  login_db:
    description: Database to connect to. It must exist, and its encoding must be UTF8.
    type: str
    required: true
  login_unix_socket:
    description: Folder of the server's socket; wins over O(login_host).
    type: path
    default: ""
  ssl_mode:
    description: How TLS is negotiated, as libpq's C(sslmode).
    type: str
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
    default: prefer
  ca_cert:
    description: File with the certificates that the server's certificate is checked against.
    type: path
  progress_file:
    description:
      - File on the host that tells how far the work is, as JSON, written once a second.
      - Set by the action plugin; there is no need to set it.
    type: path
    default: ""
requirements:
  - psycopg2 2.9 or newer on the host that the module runs on (Debian's C(python3-psycopg2))
  - PostgreSQL 14 or newer
  - Python 3.9 or newer on the host that the module runs on
"""

    # The SQLite file that is read, and which of its tables.
    SOURCE = r"""
options:
  src:
    description: Path of the SQLite file on the host that the module runs on.
    type: path
    required: true
  schema:
    description: PostgreSQL schema of the tables.
    type: str
    default: public
  include:
    description: Only these tables. All of them if empty.
    type: list
    elements: str
    default: []
  exclude:
    description: All tables but these.
    type: list
    elements: str
    default: []
"""
