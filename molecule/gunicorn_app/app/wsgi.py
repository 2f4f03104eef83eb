# SPDX-License-Identifier: GPL-3.0-or-later
"""A web application of one file: tells what it was started and asked with."""

import json
import os
import time

PLACES = {
    "shared": "../../shared/probe",
    "release": "probe",
    "etc": "/etc/probe",
    "home": "/root/probe",
    "tmp": "/tmp/probe",
}


def writable():
    found = []
    for name, path in PLACES.items():
        try:
            with open(path, "w") as file:
                file.write("written")
            os.unlink(path)
            found.append(name)
        except OSError:
            pass
    return sorted(found)


def make_app(greeting="hello"):
    def application(environ, start_response):
        told = {
            "greeting": greeting,
            "path": environ["PATH_INFO"],
            "host": environ.get("HTTP_HOST"),
            "scheme": environ["wsgi.url_scheme"],
            "pid": os.getpid(),
            "folder": os.getcwd(),
        }
        if environ["PATH_INFO"] == "/slow":
            time.sleep(2.5)
        if environ["PATH_INFO"] == "/environment":
            told["environment"] = {k: v for k, v in os.environ.items() if k.startswith("APP_")}
        if environ["PATH_INFO"] == "/writable":
            told["writable"] = writable()
        status = "404 Not Found" if environ["PATH_INFO"] == "/missing" else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]

    return application


application = make_app()
