# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that both modules share; a copy of the doc fragment in code."""

from __future__ import annotations

from typing import Any

from .target import Target


def connection_argument_spec() -> dict[str, dict[str, Any]]:
    return {
        "login_host": {"type": "str", "default": ""},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str", "required": True},
        "login_password": {"type": "str", "default": "", "no_log": True},
        "login_db": {"type": "str", "required": True},
        "login_unix_socket": {"type": "path", "default": ""},
        "ssl_mode": {
            "type": "str",
            "default": "prefer",
            "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
        },
        "ca_cert": {"type": "path"},
        "src": {"type": "path", "required": True},
        "schema": {"type": "str", "default": "public"},
        "include": {"type": "list", "elements": "str", "default": []},
        "exclude": {"type": "list", "elements": "str", "default": []},
    }


def migration_argument_spec() -> dict[str, dict[str, Any]]:
    """What only sqlite_to_postgres has."""
    return {
        "source_changed": {"type": "str", "default": "fail", "choices": ["fail", "ignore"]},
        "schema_mode": {"type": "str", "default": "create", "choices": ["create", "existing"]},
        "type_overrides": {"type": "dict", "default": {}},
        "rename": {"type": "dict", "default": {}},
        "on_bad_value": {
            "type": "str",
            "default": "fail",
            "choices": ["fail", "null", "text", "quarantine"],
        },
        "bad_value_columns": {"type": "dict", "default": {}},
        "replace": {"type": "list", "elements": "str", "default": []},
        "integrity": {"type": "str", "default": "full", "choices": ["full", "quick"]},
        "backup_copy": {"type": "path", "default": ""},
        "progress_file": {"type": "path", "default": ""},
    }


def verification_argument_spec() -> dict[str, dict[str, Any]]:
    """What only sqlite_postgres_verify has."""
    return {
        "depth": {"type": "str", "default": "counts", "choices": ["counts", "checksums", "full"]},
        "record": {"type": "bool", "default": False},
        "again": {"type": "bool", "default": False},
        "limit": {"type": "int", "default": 100},
        "evidence_file": {"type": "path", "default": ""},
        "progress_file": {"type": "path", "default": ""},
    }


def way_back_argument_spec() -> dict[str, dict[str, Any]]:
    """All of postgres_to_sqlite, which has a destination instead of a source."""
    spec = connection_argument_spec()
    del spec["src"]
    return spec | {
        "dest": {"type": "path", "required": True},
        "schema_from": {"type": "path", "default": ""},
        "replace": {"type": "bool", "default": False},
        "progress_file": {"type": "path", "default": ""},
    }


def target_from(params: dict[str, Any]) -> Target:
    return Target(
        host=params["login_host"],
        port=params["login_port"],
        user=params["login_user"],
        password=params["login_password"],
        database=params["login_db"],
        unix_socket=params["login_unix_socket"],
        ssl_mode=params["ssl_mode"],
        ca_cert=params["ca_cert"],
    )
