# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models with every type that Django stores in SQLite otherwise than in PostgreSQL."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import User
from django.db import models


class Tag(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=30, unique=True)


class Item(models.Model):
    name = models.CharField(max_length=60)
    slug = models.SlugField()
    uid = models.UUIDField(default=uuid.uuid4, unique=True)
    took = models.DurationField(null=True)
    data = models.JSONField(null=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    score = models.FloatField(default=0)
    active = models.BooleanField(default=True)
    maybe = models.BooleanField(null=True)
    created = models.DateTimeField()
    day = models.DateField(null=True)
    at = models.TimeField(null=True)
    picture = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    count = models.PositiveIntegerField(default=0)
    small = models.SmallIntegerField(default=0)
    big = models.BigIntegerField(default=0)
    twice = models.GeneratedField(
        expression=models.F("count") * 2,
        output_field=models.IntegerField(),
        db_persist=True,
    )
    owner = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField(Tag)

    class Meta:
        indexes = [models.Index(fields=["-created"], name="shop_item_created")]
        constraints = [
            models.UniqueConstraint(
                fields=["slug"], condition=models.Q(active=True), name="shop_item_active_slug"
            ),
            models.CheckConstraint(condition=models.Q(small__gte=-100), name="shop_item_small"),
        ]
