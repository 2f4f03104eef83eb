# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of an application on a host, for people and playbooks."""

from __future__ import annotations

import time
from typing import Any

from . import history, lock, systemd
from .layout import CANARY, SLOTS, Layout


def status(layout: Layout, events: int = 20) -> dict[str, Any]:
    live = layout.live_release()
    previous = layout.previous_good()
    held = lock.read(layout.lock)
    slots = {}
    for slot in SLOTS:
        state = systemd.state(layout.unit(slot))
        slots[slot] = {
            "release": layout.slot_release(slot),
            "active": state.active,
            "pid": state.pid,
            "restarts": state.restarts,
            "live": slot == layout.live_slot(),
        }
    canary = layout.slot_release(CANARY)
    return {
        "live": live,
        "previous_good": previous.id if previous else None,
        "releases": [dict(one.told(), live=one.id == live) for one in layout.all_releases()],
        "slots": slots,
        "canary": None
        if canary is None
        else {"release": canary, "active": systemd.state(layout.unit(CANARY)).active},
        "lock": held.told(time.time()) if held else None,
        "history": history.read(layout.history, events),
    }
