#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Build, switch, roll back and remove the releases of an application
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - What the role P(golive.webstack.gunicorn_app#role) does on a host with an application's
    releases. The role writes the units and settings that this module starts.
  - A switch starts the new release beside the old one, lets it prove itself on a socket of its own,
    lets it take requests from the shared listening socket, and then drains and stops the old one.
    If the new release fails its proof, the old one has not noticed.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Tells whether something would be done.
    support: full
  idempotent:
    description: >-
      A release that is built or live already is left alone. V(restart), V(rollback) and
      V(take_back) act each time.
    support: partial
options:
  application:
    description: The application, as the role knows it.
    type: dict
    required: true
    suboptions:
      name:
        description: Its name, and that of its units.
        type: str
        required: true
      home:
        description: Its folder.
        type: path
        required: true
      user:
        description: The user that runs it.
        type: str
        required: true
      run:
        description: >-
          This run, as the lookup P(golive.webstack.this_run#lookup) tells it. Nothing is done
          while another run holds the lock.
        type: dict
        default: {}
      by:
        description: Who does it, for the history.
        type: str
        default: ""
      listen:
        description: The shared socket's path or address.
        type: str
        default: ""
      health_path:
        description: The path that must answer.
        type: str
        default: /health
      health_status:
        description: The good status codes.
        type: list
        elements: int
        default: [200]
      health_host:
        description: Host header of the question.
        type: str
        default: localhost
      health_timeout:
        description: Seconds that a release has.
        type: int
        default: 60
      smoke_command:
        description: The user's own proof.
        type: str
        default: ""
      smoke_timeout:
        description: Seconds that it has.
        type: int
        default: 60
      graceful_timeout:
        description: Seconds that requests have when an instance stops.
        type: int
        default: 30
      gated:
        description: Whether the workers heed the gate of their slot.
        type: bool
        default: true
      credentials:
        description: Names of the files that systemd hands to the application.
        type: list
        elements: str
        default: []
      canary_listen:
        description: What the canary's socket listens on.
        type: str
        default: ""
      celery_app:
        description: What Celery loads; empty for none.
        type: str
        default: ""
      celery_workers:
        description: How many units of workers.
        type: int
        default: 0
      celery_beat:
        description: Whether beat runs on this host.
        type: bool
        default: false
      celery_timeout:
        description: Seconds that the workers have to answer.
        type: int
        default: 60
  action:
    description:
      - V(look) tells what is there.
      - V(build) unpacks O(archive) as O(release) and makes its environment.
      - V(run) runs O(command) with the release's and the application's environment.
      - V(switch) makes O(release) the live one.
      - V(rollback_check) looks whether V(rollback) could be done.
      - V(rollback) goes to O(release), or to the last good one before the live one.
      - V(take_back) undoes the last switch, its environment included.
      - V(restart) stops the live release and starts it with the environment of now.
      - V(canary) runs O(release) beside the live one, on a socket of its own.
      - V(canary_end) ends that.
      - V(celery) lets Celery's workers and beat follow the live release, and waits for an answer.
      - V(prune) removes the oldest releases.
    type: str
    required: true
    choices:
      - look
      - build
      - run
      - switch
      - rollback_check
      - rollback
      - take_back
      - restart
      - canary
      - canary_end
      - celery
      - prune
  release:
    description: The release's id. For V(rollback) empty means the last good one.
    type: str
    default: ""
  reason:
    description: Why, for the history.
    type: str
    default: ""
  archive:
    description: The packed source on this host. Removed when it is built.
    type: path
  recipe:
    description: What the environment is made from.
    type: dict
    default: {}
    suboptions:
      python:
        description: The interpreter.
        type: path
        default: /usr/bin/python3
      requirements:
        description: The requirements file in the source.
        type: str
        default: requirements.txt
      extra_packages:
        description: Packages that are installed after it.
        type: list
        elements: str
        default: []
      arguments:
        description: Further arguments of the installer.
        type: list
        elements: str
        default: []
      installer:
        description: V(auto) takes uv where it is on the host.
        type: str
        choices: [auto, pip, uv]
        default: auto
      wheelhouse:
        description: A packed folder of wheels on this host; nothing else is asked then.
        type: str
        default: ""
      wheelhouse_sha256:
        description: What names its content.
        type: str
        default: ""
      needs:
        description: A program that the environment must have.
        type: str
        default: gunicorn
  shared:
    description: Paths of the release that are linked from the folder shared.
    type: list
    elements: str
    default: []
  command:
    description: What V(run) runs.
    type: str
    default: ""
  unit:
    description: Name of the transient unit of V(run), after the application's.
    type: str
    default: command
  schema:
    description: Revision of the database's schema, noted with the release.
    type: str
    default: ""
  schema_breaks:
    description: Whether older code can't use this release's schema.
    type: bool
    default: false
  schema_ok:
    description: Go back in spite of that.
    type: bool
    default: false
  keep:
    description: How many releases V(prune) leaves.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Make a release the live one
  golive.webstack.app_release:
    application:
      name: shop
      home: /srv/shop
      user: shop
      listen: /run/shop.sock
      health_path: /health
    action: switch
    release: 3f9a1c0b77de
"""

RETURN = r"""
release:
  description: The release that is meant, or is live now.
  type: str
  returned: success
previous:
  description: The release that was live before; null if there was none.
  type: str
  returned: when something was switched, or looked at
slot:
  description: The slot that is live.
  type: str
  returned: when something was switched
seconds:
  description: How long it took; for a switch, until the new release took all new requests.
  type: float
  returned: when something was done
drain_seconds:
  description: How long the old instance took to finish its requests and end.
  type: float
  returned: when something was switched
built:
  description: Whether the release is there and complete.
  type: bool
  returned: for V(look)
live:
  description: The live release; null if there is none.
  type: str
  returned: for V(look)
pending:
  description: Whether V(switch) would do something.
  type: bool
  returned: for V(look)
celery_pending:
  description: Whether V(celery) would do something.
  type: bool
  returned: for V(look)
workers:
  description: The names of the Celery workers that answered.
  type: list
  elements: str
  returned: for V(celery)
finishing:
  description: >-
    The names of the Celery workers that still finish a task of the release before, and start from
    the live one after it. Others have answered from the live one, or these did not end in time.
  type: list
  elements: str
  returned: for V(celery)
stdout:
  description: What the command said.
  type: str
  returned: for V(run)
removed:
  description: The releases that were removed.
  type: list
  elements: str
  returned: for V(prune)
"""

import os
import platform
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.app_release import (
    build,
    canary,
    celery,
    commands,
    health,
    history,
    layout,
    lock,
    switch,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.errors import (
    ReleaseError,
)

_SPEC = {
    "application": {
        "type": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "run": {"type": "dict", "default": {}},
            "by": {"type": "str", "default": ""},
            "listen": {"type": "str", "default": ""},
            "health_path": {"type": "str", "default": "/health"},
            "health_status": {"type": "list", "elements": "int", "default": [200]},
            "health_host": {"type": "str", "default": "localhost"},
            "health_timeout": {"type": "int", "default": 60},
            "smoke_command": {"type": "str", "default": ""},
            "smoke_timeout": {"type": "int", "default": 60},
            "graceful_timeout": {"type": "int", "default": 30},
            "gated": {"type": "bool", "default": True},
            "credentials": {"type": "list", "elements": "str", "default": []},
            "canary_listen": {"type": "str", "default": ""},
            "celery_app": {"type": "str", "default": ""},
            "celery_workers": {"type": "int", "default": 0},
            "celery_beat": {"type": "bool", "default": False},
            "celery_timeout": {"type": "int", "default": 60},
        },
    },
    "action": {
        "type": "str",
        "required": True,
        "choices": [
            "look",
            "build",
            "run",
            "switch",
            "rollback_check",
            "rollback",
            "take_back",
            "restart",
            "canary",
            "canary_end",
            "celery",
            "prune",
        ],
    },
    "release": {"type": "str", "default": ""},
    "reason": {"type": "str", "default": ""},
    "archive": {"type": "path"},
    "recipe": {
        "type": "dict",
        "default": {},
        "options": {
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "extra_packages": {"type": "list", "elements": "str", "default": []},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "installer": {"type": "str", "choices": ["auto", "pip", "uv"], "default": "auto"},
            "wheelhouse": {"type": "str", "default": ""},
            "wheelhouse_sha256": {"type": "str", "default": ""},
            "needs": {"type": "str", "default": "gunicorn"},
        },
    },
    "shared": {"type": "list", "elements": "str", "default": []},
    "command": {"type": "str", "default": ""},
    "unit": {"type": "str", "default": "command"},
    "schema": {"type": "str", "default": ""},
    "schema_breaks": {"type": "bool", "default": False},
    "schema_ok": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 5},
}


class _Action:
    """One method for each action; what it returns is the module's result."""

    def __init__(self, given, check):
        self.given = given
        self.check = check
        told = given["application"]
        self.user = told["user"]
        self.layout = layout.Layout(told["name"], told["home"])
        settings = switch.Settings(
            user=told["user"],
            listen=told["listen"],
            health=health.Health(
                path=told["health_path"],
                status=tuple(told["health_status"]),
                host=told["health_host"],
                timeout=told["health_timeout"],
            ),
            graceful_timeout=told["graceful_timeout"],
            smoke_command=told["smoke_command"],
            smoke_timeout=told["smoke_timeout"],
            gated=told["gated"],
            credentials=told["credentials"],
        )
        self.celery_units = celery.Celery(
            self.layout,
            told["user"],
            told["celery_app"],
            told["celery_workers"],
            told["celery_beat"],
            told["celery_timeout"],
        )
        self.canary_unit = canary.Canary(self.layout, settings, told["canary_listen"], told["by"])
        self.switcher = switch.Switch(self.layout, settings)
        self.deployment = switch.Deployment(self.switcher, told["by"])

    def look(self):
        release = self.given["release"]
        live = self.layout.live_release()
        built = bool(release) and self.layout.is_built(release)
        pending = not built or live != release or self.switcher.needs(release)
        return {
            "changed": False,
            "release": release,
            "previous": live,
            "live": live,
            "built": built,
            "pending": pending,
            "celery_pending": self.celery_units.needs(),
        }

    def build(self):
        release = self.given["release"]
        if self.check:
            return {"changed": not self.layout.is_built(release), "release": release}
        recipe = build.Recipe(**self.given["recipe"])
        archive = self.given["archive"] or ""
        try:
            done = build.build(
                self.layout, release, archive, recipe, self.given["shared"], self.user
            )
        finally:
            for path in (archive, recipe.wheelhouse):
                if path and os.path.isfile(path):
                    os.unlink(path)
        return vars(done)

    def run(self):
        if self.check:
            return {"changed": True, "stdout": ""}
        begun = time.time()
        done = commands.run(
            self.layout,
            self.given["unit"],
            self.user,
            self.layout.release_path(self.given["release"]),
            f"{self.layout.etc}/environment",
            self.given["command"],
            credentials=self.switcher.settings.credentials,
        )
        if self.given["unit"] == "migrate":
            entry = history.event(
                "migrate",
                self.deployment.by,
                "failed" if done.code else "done",
                begun,
                time.time(),
                before=self.layout.live_release(),
                after=self.given["release"],
            )
            history.append(self.layout.history, entry)
        if done.code:
            live = self.layout.live_release()
            raise ReleaseError(
                f"{self.given['command']}\nended with {done.code}, with release "
                f"{self.given['release']} of {self.layout.name}:\n{done.told[-6000:]}\n"
                + (f"The release {live} still serves." if live else "")
            )
        seconds = round(time.time() - begun, 1)
        return {"changed": True, "stdout": done.output, "stderr": done.error, "seconds": seconds}

    def switch(self):
        if self.check:
            return {"changed": self.look()["pending"], "release": self.given["release"]}
        done = self.deployment.deploy(
            self.given["release"], self.given["schema"], self.given["schema_breaks"]
        )
        return dict(vars(done))

    def rollback_check(self):
        found, warnings = self.deployment.target(self.given["release"], self.given["schema_ok"])
        previous = self.layout.live_release()
        return {
            "changed": False,
            "release": found.id,
            "previous": previous,
            "warnings": warnings,
        }

    def rollback(self):
        if self.check:
            return dict(self.rollback_check(), changed=True)
        return self._followed(
            self.deployment.rollback(self.given["release"], self.given["schema_ok"])
        )

    def take_back(self):
        if self.check:
            return {"changed": True, "release": ""}
        return self._followed(
            self.deployment.take_back(self.given["schema_ok"], self.given["reason"])
        )

    def restart(self):
        if self.check:
            return {"changed": True, "release": self.layout.live_release() or ""}
        return self._followed(self.switcher.restart())

    def _followed(self, result):
        self.celery_units.follow()
        return dict(vars(result))

    def canary(self):
        release = self.given["release"]
        if self.check:
            return {"changed": not self.canary_unit.is_present(release), "release": release}
        return dict(vars(self.canary_unit.present(release)))

    def canary_end(self):
        if self.check:
            there = self.layout.slot_release(layout.CANARY) is not None
            return {"changed": there, "release": ""}
        return dict(vars(self.canary_unit.absent()))

    def celery(self):
        if self.check:
            return {"changed": self.celery_units.needs(), "workers": [], "finishing": []}
        before = self.celery_units.follow()
        workers, finishing = self.celery_units.prove(platform.node(), before or {})
        return {"changed": before is not None, "workers": workers, "finishing": finishing}

    def prune(self):
        if self.check:
            return {"changed": False, "removed": []}
        removed = switch.prune(self.layout, self.given["keep"])
        return {"changed": bool(removed), "removed": removed}


_QUIET = ("look", "rollback_check")


def main() -> None:
    module = AnsibleModule(argument_spec=_SPEC, supports_check_mode=True)
    given = module.params
    try:
        action = _Action(given, module.check_mode)
        act = getattr(action, given["action"])
        held = (
            ""
            if module.check_mode or given["action"] in _QUIET
            else given["application"]["run"].get("id")
        )
        with lock.kept(action.layout.lock, held or ""):
            result = act()
    except ReleaseError as error:
        module.fail_json(msg=error.told())
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or given['application']['home']}: {error.strerror or error}."
        )
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
