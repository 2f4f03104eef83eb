# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that says which release it is, and can be bad in every way a release can."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import parse_qs

TOLD = json.loads((Path(__file__).parent / "release.json").read_text())
RELEASE, FAULT = TOLD["release"], TOLD["fault"]

if FAULT == "import":
    raise RuntimeError(f"the release {RELEASE} lacks a setting")
if FAULT == "hang":
    time.sleep(3600)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if path == "/slow":
        time.sleep(float(parse_qs(environ["QUERY_STRING"])["seconds"][0]))
    sick = (FAULT == "unhealthy" and path == "/health") or (FAULT == "errors" and path == "/fast")
    if FAULT == "slow" and path == "/fast":
        time.sleep(0.8)
    answer = json.dumps({"release": RELEASE, "body": body.decode()}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("500 Internal Server Error" if sick else "200 OK", headers)
    return [answer]
