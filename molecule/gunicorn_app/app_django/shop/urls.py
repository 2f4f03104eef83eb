# SPDX-License-Identifier: GPL-3.0-or-later
import os

from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import path


def health(request: HttpRequest) -> JsonResponse:
    told = {"greeting": "django", "users": User.objects.count()}
    return JsonResponse({**told, "release": os.environ.get("GOLIVE_RELEASE", "")})


urlpatterns = [path("health", health)]
