# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the load of a profile with locust and writes every request down.

Arguments: the profile and the result, both JSON files. The result is renewed each second while it
runs, without the single requests, so that a reader sees how far it has come.

A profile has base_url, host, verify, users, spawn_rate, requests (0: no limit), seconds, think
([least, most] in seconds), rate (requests a minute of all users, 0: as fast as they can), timeout,
endpoints and flow. An endpoint has name, method, path, weight, headers, json, form and status; a
step of the flow is an endpoint without weight, with capture: {variable: JSON path or regex}, or a
command (its arguments, no shell) with capture and wait: it is run again for that many seconds until
all is found in its output. A command is no request: it is told of only where it failed.
Text such as ${email} is replaced by what was captured, ${random} by a text that is each user's own.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import re  # noqa: E402
import string  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
import gevent.lock  # noqa: E402
from locust import FastHttpUser, between, constant_pacing, events, task  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.exception import StopUser  # noqa: E402

# Commands at a time: a thousand users must not start a thousand processes at once.
COMMANDS = gevent.lock.Semaphore(4)


class Recorder:
    """Every request: when it began, what it was, how long it took, and what was wrong."""

    def __init__(self, profile, path):
        self.profile = profile
        self.path = path
        self.began = time.time()
        self.names = []
        self.flow = []
        self.requests = []
        self.ended = None

    def add(
        self, request_type, name, response_time, exception, context, start_time=None, **_unused
    ):
        label = f"{request_type} {name}"
        if label not in self.names:
            self.names.append(label)
        began = (start_time or time.time() - response_time / 1000) - self.began
        fault = "" if exception is None else str(exception)[:200]
        self.requests.append(
            [round(began, 3), self.names.index(label), round(response_time, 2), fault]
        )
        if (context or {}).get("flow") and label not in self.flow:
            self.flow.append(label)

    def told(self, whole):
        recent = self.requests[-1000:]
        times = sorted(one[2] for one in recent)
        return {
            "began": self.began,
            "seconds": round((self.ended or time.time()) - self.began, 2),
            "done": len(self.requests),
            "failed": sum(bool(one[3]) for one in self.requests),
            "recent_p95": times[max(0, -(-len(times) * 95 // 100) - 1)] if times else None,
            "names": self.names,
            "flow": self.flow,
            **({"requests": self.requests} if whole else {}),
        }

    def write(self, whole=False):
        with open(f"{self.path}.partial", "w", encoding="utf-8") as stream:
            json.dump(self.told(whole), stream)
        os.replace(f"{self.path}.partial", self.path)


def at(document, path):
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def filled(value, variables):
    if isinstance(value, str):
        return string.Template(value).safe_substitute(variables)
    if isinstance(value, dict):
        return {key: filled(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    return value


def captured(text, wanted, variables):
    """The variables that are to be found in a text; what is not there is a LookupError."""
    made = {}
    for name, told in wanted.items():
        path = filled(told, variables)
        try:
            if path.startswith("regex:"):
                found = re.search(path[6:], text)[1]
            else:
                found = at(json.loads(text), path)
        except (LookupError, TypeError, ValueError, re.error):
            raise LookupError(told) from None
        made[name] = str(found)
    return made


def general(text, variables):
    """A text without what is a user's own: faults are kept, and told once for all users."""
    for name, value in variables.items():
        if len(value) > 3:
            text = text.replace(value, "${" + name + "}")
    return text


def tried(step, variables, seconds):
    """A step's command, run once: what was wrong, and the variables that it gave."""
    try:
        with COMMANDS:
            done = subprocess.run(
                filled(step["command"], variables),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(seconds, 1),
                check=False,
            )
    except subprocess.TimeoutExpired:
        return "did not end", {}
    except (OSError, ValueError) as error:
        return f"did not start: {getattr(error, 'strerror', None) or error}", {}
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return ": ".join([f"ended with {done.returncode}", *said[-1:]]), {}
    try:
        output = done.stdout.decode("utf-8", "replace")
        return "", captured(output, step.get("capture", {}), variables)
    except LookupError as error:
        return f"no {error.args[0]} in its output", {}


def commanded(step, variables):
    """As `tried`, again and again for as long as the step waits."""
    end, pause = time.time() + step["wait"], 0.1
    while True:
        fault, found = tried(step, variables, end - time.time())
        if not fault:
            return "", found
        if time.time() + pause > end:
            return f"{step['command'][0]}: {general(fault, variables)}, for {step['wait']} s", {}
        gevent.sleep(pause)
        pause = min(pause * 2, 2)


def user_class(profile, recorder, budget):
    least, most = profile["think"]
    rate = profile["rate"]

    class Visitor(FastHttpUser):
        host = profile["base_url"]
        insecure = not profile["verify"]
        network_timeout = connection_timeout = profile["timeout"]
        # A user waits as long as he must for all of them together to keep to the rate.
        wait_time = constant_pacing(profile["users"] * 60 / rate) if rate else between(least, most)

        def on_start(self):
            self.variables = {"random": "".join(random.choices(string.ascii_lowercase, k=12))}
            for step in profile["flow"]:
                if not self.send(step, flow=True):
                    # Whoever can't log in can't go on; the next user tries anew.
                    raise StopUser()

        @task
        def visit(self):
            endpoints = profile["endpoints"]
            weights = [one.get("weight", 1) for one in endpoints]
            self.send(random.choices(endpoints, weights)[0])

        def run_command(self, step):
            begun = time.time()
            fault, found = commanded(step, self.variables)
            self.variables.update(found)
            if fault:
                took = (time.time() - begun) * 1000
                recorder.add("command", step["name"], took, fault, {"flow": True}, begun)
            return not fault

        def send(self, step, flow=False):
            if budget["left"] is not None and budget["left"] <= 0:
                raise StopUser()
            if "command" in step:
                return self.run_command(step)
            if budget["left"] is not None:
                budget["left"] -= 1
            capture = step.get("capture", {})
            step = filled(step, self.variables)
            headers = {"Host": profile["host"], **step.get("headers", {})}
            body = {}
            if "json" in step:
                body["json"] = step["json"]
            elif "form" in step:
                body["data"] = step["form"]
            wanted = step.get("status") or list(range(200, 400))
            with self.client.request(
                step.get("method", "GET"),
                step["path"],
                name=step.get("name") or step["path"],
                headers=headers,
                allow_redirects=False,
                catch_response=True,
                context={"flow": flow},
                **body,
            ) as answer:
                if answer.status_code not in wanted:
                    answer.failure(f"status {answer.status_code}")
                    return False
                try:
                    self.variables.update(captured(answer.text, capture, self.variables))
                except LookupError as error:
                    answer.failure(f"no {error.args[0]} in the answer")
                    return False
                answer.success()
            return True

    return Visitor


def main():
    with open(sys.argv[1], encoding="utf-8") as stream:
        profile = json.load(stream)
    recorder = Recorder(profile, sys.argv[2])
    budget = {"left": profile["requests"] or None}
    environment = Environment(
        user_classes=[user_class(profile, recorder, budget)], events=events, stop_timeout=30
    )
    events.request.add_listener(recorder.add)
    runner = environment.create_local_runner()
    runner.start(profile["users"], spawn_rate=profile["spawn_rate"])
    end = time.time() + profile["seconds"]
    while time.time() < end:
        gevent.sleep(0.2)
        if int(time.time() * 5) % 5 == 0:
            recorder.write()
        if budget["left"] is not None and budget["left"] <= 0:
            break
        # Nobody came through the flow: there is nothing to wait for.
        if runner.state == "running" and not runner.user_count:
            break
    recorder.ended = time.time()
    runner.quit()
    recorder.write(whole=True)


if __name__ == "__main__":
    main()
