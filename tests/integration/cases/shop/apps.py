# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.integration.cases.shop"
    label = "shop"
    default_auto_field = "django.db.models.BigAutoField"
