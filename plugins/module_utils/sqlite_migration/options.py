# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the three modules share: options, as the doc fragment has them, and the way to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .errors import MigrationError
from .target import Target

Spec = dict[str, dict[str, Any]]
T = TypeVar("T")


def _shared_argument_spec() -> Spec:
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
        "schema": {"type": "str", "default": "public"},
        "include": {"type": "list", "elements": "str", "default": []},
        "exclude": {"type": "list", "elements": "str", "default": []},
        "progress_file": {"type": "path", "default": ""},
    }


def migration_argument_spec() -> Spec:
    """All of sqlite_to_postgres."""
    return _shared_argument_spec() | {
        "src": {"type": "path", "required": True},
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
        "integrity": {"type": "str", "default": "rows", "choices": ["rows", "full", "quick"]},
        "backup_copy": {"type": "path", "default": ""},
    }


def verification_argument_spec() -> Spec:
    """All of sqlite_postgres_verify."""
    return _shared_argument_spec() | {
        "src": {"type": "path", "required": True},
        "depth": {"type": "str", "default": "counts", "choices": ["counts", "checksums", "full"]},
        "record": {"type": "bool", "default": False},
        "again": {"type": "bool", "default": False},
        "limit": {"type": "int", "default": 100},
        "evidence_file": {"type": "path", "default": ""},
    }


def way_back_argument_spec() -> Spec:
    """All of postgres_to_sqlite, which has a destination instead of a source."""
    return _shared_argument_spec() | {
        "dest": {"type": "path", "required": True},
        "schema_from": {"type": "path", "default": ""},
        "replace": {"type": "bool", "default": False},
    }


def _target_from(params: dict[str, Any]) -> Target:
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


def shared_fields(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Those fields of a request that every module has."""
    names = ("schema", "include", "exclude", "progress_file")
    return {
        "target": _target_from(params),
        "check_mode": check_mode,
        **{name: params[name] for name in names},
    }


def or_fail(module: Any, work: Callable[[], T]) -> T:
    """What `work` returns; the module fails with its MigrationError."""
    try:
        return work()
    except MigrationError as error:
        module.fail_json(msg=error.message, **error.details)
        raise


def warn_of_left_out(module: Any, items: list[dict[str, str]]) -> None:
    for item in items:
        module.warn(f"Not carried over: {item['kind']} {item['name']}: {item['reason']}")
