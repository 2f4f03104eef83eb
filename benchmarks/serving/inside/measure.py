# SPDX-License-Identifier: GPL-3.0-or-later
"""In the container: puts a load on, and tells what it cost, as JSON.

ready                                 whether all ways answer; logs in and keeps the cookie
load URL UNITS SECONDS CONNECTIONS    wrk; processor time and memory of the units
think PORT USERS SECONDS              users who think for 1 to 5 seconds between requests
"""

import asyncio
import http.client
import json
import os
import random
import re
import subprocess
import sys
import time

COOKIE = "/srv/bench/cookie"
TICKS = os.sysconf("SC_CLK_TCK")
WRITE = '{"message": "from the benchmark", "level": "info", "duration_ms": 12.5}'


def ask(port, path, method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer, answer.read()


def ready():
    for port, path in ((80, "/api/stats"), (8001, "/api/stats"), (8002, "/"), (8003, "/api/stats")):
        answer, body = ask(port, path)
        if answer.status != 200:
            return 1
    with open("/srv/bench/files/stats.json", "wb") as stream:
        stream.write(body)
    login = json.dumps({"email": "demo@example.com", "password": "demo-password-2025"})
    answer, body = ask(80, "/auth/login", "POST", login, {"Content-Type": "application/json"})
    if answer.status != 200:
        sys.exit(f"login: {answer.status} {body[:200]}")
    with open(COOKIE, "w") as stream:
        stream.write(answer.getheader("Set-Cookie").split(";")[0])
    answer, body = ask(8001, "/api/logs?limit=50", headers={"Cookie": open(COOKIE).read()})
    return 0 if answer.status == 200 and len(json.loads(body)["items"]) == 50 else 1


def members(units):
    """Process ids of units, by their cgroup."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cgroup") as stream:
                text = stream.read()
        except OSError:
            continue
        if any(f"/{unit}" in text for unit in units):
            yield name


def cpu_seconds(units):
    """Of the processes that are there, and of their children that have ended."""
    total = 0
    for pid in members(units):
        try:
            with open(f"/proc/{pid}/stat") as stream:
                fields = stream.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def memory_mb(units):
    total = 0
    for pid in members(units):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as stream:
                total += int(re.search(r"^Pss:\s+(\d+)", stream.read(), re.M)[1])
        except (OSError, TypeError):
            continue
    return total / 1024


def load(url, units, seconds, connections):
    units = units.split(",")
    cookie = open(COOKIE).read()
    alone = "alone" if url.count("/") > 2 else "mix"
    before = cpu_seconds(units)
    done = subprocess.run(
        ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", "/srv/bench/mix.lua", url,
         "--", cookie, alone], capture_output=True, text=True, check=True)  # fmt: skip
    used = cpu_seconds(units) - before
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    requests, duration, p50, p95, p99, errors = map(int, found[1].split())
    return {
        "requests": requests,
        "per_second": requests / (duration / 1e6),
        "p50_ms": p50 / 1000,
        "p95_ms": p95 / 1000,
        "p99_ms": p99 / 1000,
        "errors": errors,
        "cpu_ms": used * 1000 / max(requests, 1),
        "memory_mb": memory_mb([unit for unit in units if unit != "nginx.service"]),
    }


async def user(port, number, cookie, end, times, failures):
    choose = random.Random(number)
    await asyncio.sleep(choose.uniform(0, 5))
    reader = writer = None
    while time.monotonic() < end:
        turn = choose.random()
        head, body = "GET /api/stats HTTP/1.1\r\n", ""
        if turn >= 0.9:
            head, body = "POST /api/logs HTTP/1.1\r\nContent-Type: application/json\r\n", WRITE
            head += f"X-API-Key: demo-api-key-0001\r\nContent-Length: {len(body)}\r\n"
        elif turn >= 0.6:
            head = f"GET /api/logs?limit=50 HTTP/1.1\r\nCookie: {cookie}\r\n"
        began = time.monotonic()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{head}Host: localhost\r\n\r\n{body}".encode())
            answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).lower()
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", answer)[1]))
            times.append(time.monotonic() - began)
            if not answer.startswith((b"http/1.1 200", b"http/1.1 201")):
                failures.append(answer[:40].decode())
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, TypeError) as error:
            failures.append(repr(error))
            writer = None
        await asyncio.sleep(choose.uniform(1, 5))
    if writer:
        writer.close()


async def think(port, users, seconds):
    cookie = open(COOKIE).read()
    times, failures = [], []
    end = time.monotonic() + seconds
    await asyncio.gather(
        *(user(port, number, cookie, end, times, failures) for number in range(users))
    )
    times.sort()

    def rank(percent):
        return times[max(-(-percent * len(times) // 100), 1) - 1] * 1000

    return {
        "requests": len(times),
        "errors": len(failures),
        "said": sorted(set(failures))[:5],
        "p50_ms": rank(50),
        "p95_ms": rank(95),
        "p99_ms": rank(99),
    }


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "ready":
        try:
            sys.exit(ready())
        except OSError:
            sys.exit(1)
    elif what == "load":
        print(json.dumps(load(rest[0], rest[1], int(rest[2]), int(rest[3]))))
    else:
        print(json.dumps(asyncio.run(think(*map(int, rest)))))
