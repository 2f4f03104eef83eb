# SPDX-License-Identifier: GPL-3.0-or-later
"""Constant load on a site, every request accounted for.

Usage: load_client.py HOST PORT RATE REPORT

RATE requests a second: half on connections that are kept, half on new ones; a third of them POST
with a body that must come back. One in forty takes 2.5 s, so that with 80 a second some are always
in flight. Ends on SIGTERM, after the last answer, and writes REPORT (JSON). A request
that gets no answer, another status than 200 or a wrong body is lost; nothing is tried twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time

SLOW = 2.5
PATIENCE = 40.0


class Client:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.sent = self.kept = self.slow = 0
        self.lost: list[dict] = []
        self.times: list[float] = []
        self.answers: list[float] = []
        self.releases: dict[str, int] = {}
        self.order: list[str] = []

    async def ask(self, number: int) -> None:
        keep = number % 2 == 0
        if number % 80 in (3, 44):
            method, path, body = "GET", f"/slow?seconds={SLOW}", b""
        elif number % 3 == 0:
            method, path, body = "POST", "/echo", f"message {number}".encode()
        else:
            method, path, body = "GET", "/fast", b""
        slow = path.startswith("/slow")
        self.sent += 1
        self.kept += keep
        self.slow += slow
        began = time.monotonic()
        reused = False
        try:
            while keep and self.idle and not reused:
                reader, writer = self.idle.pop()
                # nginx closes a connection that was idle for 65 s, as every client must expect.
                reused = not reader.at_eof() and not writer.is_closing()
            if not reused:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            status, headers, answer = await asyncio.wait_for(self.read(reader), PATIENCE)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            self.lose(number, began, method, path, reused, repr(error))
            return
        if keep and headers.get("connection", "") != "close":
            self.idle.append((reader, writer))
        else:
            writer.close()
        told = json.loads(answer) if status == 200 else {}
        if status != 200 or (body and told.get("body") != body.decode()):
            self.lose(number, began, method, path, reused, f"status {status}")
            return
        ended = time.monotonic()
        if not slow:
            self.times.append(ended - began)
            self.answers.append(ended)
        release = told["release"]
        self.releases[release] = self.releases.get(release, 0) + 1
        if release not in self.order:
            self.order.append(release)

    @staticmethod
    async def read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding", "") == "chunked":
            answer = b""
            while True:
                size = int(await reader.readline(), 16)
                answer += (await reader.readexactly(size + 2))[:-2]
                if size == 0:
                    break
        else:
            answer = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, answer

    def lose(self, number: int, began: float, method: str, path: str, reused: bool, why: str):
        self.lost.append(
            {
                "number": number,
                "at": round(time.time() - (time.monotonic() - began), 3),
                "after": round(time.monotonic() - began, 3),
                "request": f"{method} {path}",
                "kept_connection": reused,
                "why": why,
            }
        )

    def report(self) -> dict:
        ordered = sorted(self.times)
        moments = sorted(self.answers)
        gaps = [later - earlier for earlier, later in zip(moments, moments[1:])]
        return {
            "sent": self.sent,
            "on_kept_connections": self.kept,
            "slow": self.slow,
            "lost": len(self.lost),
            "lost_requests": self.lost[:50],
            "longest_gap_s": round(max(gaps, default=0.0), 3),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 1) if ordered else None,
            "p95_ms": round(1000 * ordered[len(ordered) * 95 // 100], 1) if ordered else None,
            "releases": self.releases,
            "order": self.order,
        }


async def main() -> None:
    host, port, rate, path = sys.argv[1:]
    client = Client(host, int(port))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Asked for by the tests while it runs.
    loop.add_signal_handler(signal.SIGUSR1, lambda: write(path, client.report()))
    tasks: set[asyncio.Task] = set()
    began = loop.time()
    number = 0
    while not stop.is_set():
        task = asyncio.create_task(client.ask(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        wait = began + number / float(rate) - loop.time()
        if wait > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
        else:
            await asyncio.sleep(0)
    if tasks:
        await asyncio.wait(tasks)
    write(path, client.report())


def write(path: str, report: dict) -> None:
    with open(path, "w") as file:
        json.dump(report, file)


asyncio.run(main())
