from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import simple_websocket
from conftest import API_KEY, PASSWORD
from flask import Flask

from app import create_app, live
from app.live import LiveManager, worker_is_stopping
from app.services.redis_guard import RedisGuard, make_client

STATIC = Path(live.__file__).parent / "static"


@pytest.fixture
def cookie(app: Flask) -> str:
    answer = app.test_client().post(
        "/auth/login", json={"email": "reader@example.com", "password": PASSWORD}
    )
    return answer.headers["Set-Cookie"].split(";")[0]


class Client(simple_websocket.Client):
    """Reads what comes together with the handshake's answer, which simple_websocket leaves lying
    until something more arrives.
    """

    def handshake(self) -> None:
        super().handshake()
        self.connected = self._handle_events()


def connect(server: str, cookie: str | None) -> Client:
    """Connect as the page's own client does: open, then connect to the namespace."""
    headers = {"Cookie": cookie} if cookie else {}
    url = f"ws://{server}/socket.io/?EIO=4&transport=websocket"
    socket = Client(url, headers=headers)
    opened = socket.receive(timeout=30)
    assert opened[0] == "0" and json.loads(opened[1:])["pingInterval"] > 0
    socket.send("40")
    assert socket.receive(timeout=30).startswith('40{"sid"')
    return socket


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def post(app: Flask, message: str) -> int:
    answer = app.test_client().post(
        "/api/logs", json={"message": message}, headers={"X-API-Key": API_KEY}
    )
    assert answer.status_code == 201
    return answer.get_json()["id"]


def test_stored_entry_arrives(app: Flask, server: str, cookie: str) -> None:
    socket = connect(server, cookie)
    number = post(app, "live ✓")
    frame = socket.receive(timeout=30)
    assert frame.startswith("42")
    name, entry = json.loads(frame[2:])
    assert name == "log_entry"
    assert entry["id"] == number and entry["message"] == "live ✓" and entry["app"] == "First"
    socket.close()


def test_anonymous_is_refused(server: str) -> None:
    with pytest.raises(simple_websocket.ConnectionError):
        connect(server, None)


def test_foreign_origin_is_refused(server: str, cookie: str) -> None:
    with pytest.raises(simple_websocket.ConnectionError):
        simple_websocket.Client(
            f"ws://{server}/socket.io/?EIO=4&transport=websocket",
            headers={"Cookie": cookie, "Origin": "https://elsewhere.example"},
        )


def test_clients_are_capped_and_places_come_back(app: Flask, server: str, cookie: str) -> None:
    state = app.extensions["live"]
    state.max_clients = 2
    sockets = [connect(server, cookie) for _ in range(2)]
    with pytest.raises(simple_websocket.ConnectionError):
        connect(server, cookie)
    assert state.clients == 2
    sockets.pop().close()
    assert eventually(lambda: state.clients == 1)
    sockets.append(connect(server, cookie))
    state.close_all()
    assert eventually(lambda: state.clients == 0)
    with pytest.raises(simple_websocket.ConnectionError):
        connect(server, cookie)


def test_long_polling_is_refused(app: Flask) -> None:
    answer = app.test_client().get("/socket.io/?EIO=4&transport=polling")
    assert answer.status_code == 400 and answer.get_json() == {"error": "websocket_only"}


def test_two_processes_share_updates_through_redis(
    app: Flask, real_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", real_redis_url)
    first, second = create_app(), create_app()
    received: list[object] = []
    manager = second.extensions["live"].socketio.server.manager
    monkeypatch.setattr(manager, "_handle_emit", received.append)
    manager.initialize()

    def send() -> bool:
        first.extensions["live"].emit_log({"id": 1})
        return bool(received)

    assert eventually(send)
    assert received[0]["event"] == "log_entry" and received[0]["data"] == [{"id": 1}]  # type: ignore[index]


def test_forked_workers_get_their_own_host_id() -> None:
    import os

    url = "redis://127.0.0.1:1/0"
    manager = LiveManager(url, make_client(url), RedisGuard())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, manager.host_id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    inherited = os.read(reader, 100).decode()
    assert len(inherited) == 32 and inherited != manager.host_id


def test_stopping_worker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        alive = True

        def handle_exit(self) -> None:
            """Gunicorn's handler is a method like this one."""

    worker = Worker()
    monkeypatch.setattr(live.signal, "getsignal", lambda number: worker.handle_exit)
    assert worker_is_stopping() is False
    worker.alive = False
    assert worker_is_stopping() is True
    monkeypatch.setattr(live.signal, "getsignal", lambda number: live.signal.SIG_DFL)
    assert worker_is_stopping() is False


JS_CHECK = """
const assert = require("assert");
const { decodeFrame, backoffDelay, LiveClient } = require(process.argv[1]);
assert.deepStrictEqual(decodeFrame('0{"pingInterval":5}'), {type: "open", data: {pingInterval: 5}});
assert.deepStrictEqual(decodeFrame("2"), {type: "ping", data: ""});
assert.deepStrictEqual(decodeFrame('40{"sid":"x"}'), {type: "connected"});
assert.deepStrictEqual(decodeFrame('44{"message":"no"}'), {type: "refused"});
assert.deepStrictEqual(decodeFrame("41"), {type: "disconnected"});
assert.deepStrictEqual(decodeFrame("1"), {type: "close"});
assert.deepStrictEqual(
  decodeFrame('4217["log_entry",{"id":1}]'), {type: "event", name: "log_entry", data: {id: 1}});
for (const odd of ["", "9", "6", "45", new ArrayBuffer(2)])
  assert.deepStrictEqual(decodeFrame(odd), {type: "unknown"});
assert.strictEqual(backoffDelay(0, 1), 1);
assert.strictEqual(backoffDelay(100, 1), 60);
assert.strictEqual(backoffDelay(100, 0), 30);

const sent = [], states = [], events = [];
global.WebSocket = class { send(x) { sent.push(x); } close() { this.closed = true; } };
const client = new LiveClient("ws://x", {
  onState: (s) => states.push(s), onEvent: (n, d) => events.push([n, d]) });
client.start();
const socket = client.socket;
for (const data of ['0{"pingInterval":25000,"pingTimeout":20000}', '40{"sid":"x"}', "2", "42[",
                    '42["log_entry",{"id":7}]']) socket.onmessage({ data });
assert.deepStrictEqual(sent, ["40", "3"]);
assert.deepStrictEqual(states, ["live"]);
assert.deepStrictEqual(events, [["log_entry", {id: 7}]]);
socket.onmessage({ data: "41" });
assert.strictEqual(socket.closed, true);
socket.onclose();
assert.deepStrictEqual(states, ["live", "down"]);
assert.strictEqual(client.socket, null);
socket.onmessage({ data: '42["log_entry",{"id":8}]' });
assert.strictEqual(events.length, 1);
process.stdout.write("passed");
process.exit(0);
"""


def test_browser_client_framing() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "-e", JS_CHECK, str(STATIC / "live.js")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == "passed", done.stderr
