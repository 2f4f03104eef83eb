# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for AWX's REST API, as much of it as awx_configure.yml needs.

AWX can't be installed from the registries that the tests have. FIELDS is what version 24's API
takes for each kind of object, and `survey_errors` are its rules for surveys, both written down from
its documentation and its behaviour; what it does with a job isn't here.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

COMMON = {"name", "description"}
ASK = {
    f"ask_{what}_on_launch"
    for what in ("job_type", "limit", "verbosity", "variables", "scm_branch", "inventory", "tags")
}
TEMPLATE = COMMON | ASK | {"organization", "survey_enabled", "allow_simultaneous", "extra_vars"}
FIELDS: dict[str, set[str]] = {
    "organizations": COMMON | {"max_hosts", "default_environment"},
    "execution_environments": COMMON | {"image", "pull", "organization", "credential"},
    "projects": COMMON
    | {"organization", "scm_type", "scm_url", "scm_branch", "scm_update_on_launch"}
    | {"scm_update_cache_timeout", "credential", "default_environment", "local_path"}
    | {"scm_refspec", "scm_clean", "scm_delete_on_update", "timeout", "allow_override"},
    "inventories": COMMON | {"organization", "kind", "host_filter", "variables"},
    "inventory_sources": COMMON
    | {"inventory", "source", "source_project", "source_path", "overwrite", "overwrite_vars"}
    | {"update_on_launch", "update_cache_timeout", "credential"},
    "credential_types": COMMON | {"kind", "inputs", "injectors", "managed"},
    "credentials": COMMON | {"organization", "credential_type", "inputs", "user", "team"},
    "notification_templates": COMMON
    | {"organization", "notification_type", "notification_configuration", "messages"},
    "job_templates": TEMPLATE
    | {"project", "inventory", "playbook", "job_type", "diff_mode", "timeout", "forks", "limit"},
    "workflow_job_templates": TEMPLATE | {"inventory", "limit", "scm_branch"},
    "workflow_job_template_nodes": {"identifier", "workflow_job_template", "unified_job_template"},
    "schedules": COMMON | {"unified_job_template", "rrule", "extra_data", "enabled"},
}
KINDS = {
    "organizations": "organization",
    "inventories": "inventory",
    "credential_types": "credential_type",
    "workflow_job_template_nodes": "workflow_job_template_node",
}
# Deployed before anybody configures anything.
GIVEN = [
    ("organizations", {"name": "Default"}),
    ("credential_types", {"name": "Machine", "kind": "ssh", "inputs": {}, "injectors": {}}),
    ("credentials", {"name": "shop machines", "credential_type": 2, "inputs": {}}),
]


def survey_errors(survey: dict[str, Any]) -> list[str]:
    errors = [f"{key} is missing" for key in ("name", "description", "spec") if key not in survey]
    for asked in survey.get("spec", []):
        name = asked.get("variable", "?")
        kind = asked.get("type")
        if kind not in ("text", "textarea", "password", "integer", "float", "multiplechoice"):
            errors.append(f"{name}: no question has the type {kind}")
        if not isinstance(asked.get("required"), bool) or not asked.get("question_name"):
            errors.append(f"{name}: required or question_name is missing")
        default = asked.get("default", "")
        if kind in ("integer", "float") and not isinstance(default, (int, float)):
            errors.append(f"{name}: a number that is left out is refused at the launch")
        if kind == "multiplechoice" and default not in ["", *asked["choices"]]:
            errors.append(f"{name}: {default} is no choice")
        if kind in ("text", "password") and not isinstance(default, str):
            errors.append(f"{name}: the default of a text is a text")
    return errors


class Api:
    """The objects, and a server on a loopback port while the context lasts."""

    def __init__(self) -> None:
        self.objects: dict[int, dict[str, Any]] = {}
        self.surveys: dict[int, dict[str, Any]] = {}
        self.links: dict[tuple[int, str], list[int]] = {}
        self.writes: list[str] = []
        for endpoint, fields in GIVEN:
            self.create(endpoint, fields)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                code, told = api.request(self.command, self.path, body)
                data = json.dumps(told).encode() if told is not None else b""
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-API-Product-Name", "AWX")
                self.send_header("X-API-Product-Version", "24.6.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Api:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def names(self, endpoint: str) -> list[str]:
        return [
            item.get("name", item.get("identifier"))
            for item in self.objects.values()
            if item["endpoint"] == endpoint
        ]

    def create(self, endpoint: str, fields: dict[str, Any]) -> dict[str, Any]:
        number = len(self.objects) + 1
        url = f"/api/v2/{endpoint}/{number}/"
        related = {"survey_spec": f"{url}survey_spec/"}
        for link in (
            *("credentials", "success_nodes", "failure_nodes", "always_nodes"),
            *(f"notification_templates_{when}" for when in ("started", "success", "error")),
            *("notification_templates_approvals", "labels", "instance_groups"),
        ):
            related[link] = f"{url}{link}/"
        item = {
            "id": number,
            "endpoint": endpoint,
            "type": KINDS.get(endpoint, endpoint[:-1]),
            "url": url,
            "related": related,
            "summary_fields": {},
            "description": "",
            "status": "successful",
            "scm_revision": "0" * 40,
            **fields,
        }
        self.objects[number] = item
        return item

    @staticmethod
    def shown(item: dict[str, Any]) -> dict[str, Any]:
        told = dict(item)
        if item["endpoint"] == "credentials":
            told["inputs"] = dict.fromkeys(item["inputs"], "$encrypted$")
        return told

    def request(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if method != "GET":
            self.writes.append(f"{method} {path}")
        url = urlsplit(path)
        parts = [part for part in url.path.split("/") if part][2:]
        if not parts or (parts[0] not in FIELDS and parts[0] != "unified_job_templates"):
            return 404, {"detail": "Not found."}
        if len(parts) == 1:
            if method == "POST":
                return self.post(parts[0], body)
            return 200, self.listed(parts[0], dict(parse_qsl(url.query)))
        item = self.objects.get(int(parts[1]))
        if item is None or item["endpoint"] != parts[0]:
            return 404, {"detail": "Not found."}
        if len(parts) == 3:
            return self.related(item, parts[2], method, body)
        if method == "PATCH":
            unknown = set(body) - FIELDS[parts[0]] - {"type"}
            if unknown:
                return 400, {"detail": f"unknown: {sorted(unknown)}"}
            item.update(body)
        return 200, self.shown(item)

    def post(self, endpoint: str, body: dict[str, Any]) -> tuple[int, Any]:
        unknown = set(body) - FIELDS[endpoint] - {"type"}
        if unknown:
            return 400, {"detail": f"unknown: {sorted(unknown)}"}
        body.pop("type", None)
        if endpoint == "schedules" and not re.match(r"DTSTART;TZID=\S+ RRULE:", body["rrule"]):
            return 400, {"rrule": ["DTSTART;TZID=... RRULE:... is what it takes"]}
        return 201, self.shown(self.create(endpoint, body))

    def listed(self, endpoint: str, query: dict[str, str]) -> dict[str, Any]:
        wanted = {key.removeprefix("or__"): value for key, value in query.items()}
        wanted.pop("id", None)
        begin = wanted.pop("name__startswith", "")
        # How many on a page, and which: all are on one.
        wanted.pop("page_size", None)
        kinds = ("job_templates", "workflow_job_templates", "projects")
        found = [
            self.shown(item)
            for item in self.objects.values()
            if item["endpoint"] in (kinds if endpoint == "unified_job_templates" else [endpoint])
            and all(str(item.get(key)) == value for key, value in wanted.items())
            and str(item.get("name", "")).startswith(begin)
        ]
        return {"count": len(found), "next": None, "previous": None, "results": found}

    def related(
        self, item: dict[str, Any], what: str, method: str, body: dict[str, Any]
    ) -> tuple[int, Any]:
        if what == "survey_spec":
            if method == "POST":
                if errors := survey_errors(body):
                    return 400, {"error": errors}
                self.surveys[item["id"]] = body
            return 200, self.surveys.get(item["id"], {})
        if what == "create_approval_template":
            made = self.create("approvals", body)
            made["url"] = f"/api/v2/workflow_job_template_nodes/{item['id']}/approval/"
            item["unified_job_template"] = made["id"]
            item["related"]["unified_job_template"] = made["url"]
            return 201, made
        if what == "approval":
            made = self.objects[item["unified_job_template"]]
            made.update(body)
            return 200, made
        links = self.links.setdefault((item["id"], what), [])
        if method == "POST":
            if body.get("disassociate"):
                links.remove(body["id"])
            else:
                links.append(body["id"])
            return 204, None
        found = [self.shown(self.objects[number]) for number in links]
        return 200, {"count": len(found), "next": None, "previous": None, "results": found}
