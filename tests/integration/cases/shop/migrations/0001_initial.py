# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Made by makemigrations."""

import uuid

import django.db.models.deletion
import django.db.models.expressions
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Tag",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=30, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Item",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=60)),
                ("slug", models.SlugField()),
                ("uid", models.UUIDField(default=uuid.uuid4, unique=True)),
                ("took", models.DurationField(null=True)),
                ("data", models.JSONField(null=True)),
                ("price", models.DecimalField(decimal_places=2, max_digits=10)),
                ("score", models.FloatField(default=0)),
                ("active", models.BooleanField(default=True)),
                ("maybe", models.BooleanField(null=True)),
                ("created", models.DateTimeField()),
                ("day", models.DateField(null=True)),
                ("at", models.TimeField(null=True)),
                ("picture", models.BinaryField(null=True)),
                ("address", models.GenericIPAddressField(null=True)),
                ("count", models.PositiveIntegerField(default=0)),
                ("small", models.SmallIntegerField(default=0)),
                ("big", models.BigIntegerField(default=0)),
                (
                    "twice",
                    models.GeneratedField(
                        db_persist=True,
                        expression=django.db.models.expressions.CombinedExpression(
                            models.F("count"), "*", models.Value(2)
                        ),
                        output_field=models.IntegerField(),
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, to="shop.item"
                    ),
                ),
                ("tags", models.ManyToManyField(to="shop.tag")),
            ],
            options={
                "indexes": [models.Index(fields=["-created"], name="shop_item_created")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("active", True)),
                        fields=("slug",),
                        name="shop_item_active_slug",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("small__gte", -100)), name="shop_item_small"
                    ),
                ],
            },
        ),
    ]
