// A small Socket.IO client: Engine.IO v4 frames over one WebSocket.
"use strict";

// Splits a frame into what the server said: the first digit is Engine.IO's
// packet type, and inside a message (4) the second one is Socket.IO's.
function decodeFrame(frame) {
  if (typeof frame !== "string" || frame === "") return { type: "unknown" };
  const rest = frame.slice(1);
  switch (frame[0]) {
    case "0": return { type: "open", data: JSON.parse(rest) };
    case "1": return { type: "close" };
    case "2": return { type: "ping", data: rest };
    case "4": break;
    default: return { type: "unknown" };
  }
  const body = rest.slice(1);
  switch (rest[0]) {
    case "0": return { type: "connected" };
    case "1": return { type: "disconnected" };
    case "4": return { type: "refused" };
    case "2": {
      const args = JSON.parse(body.replace(/^\d+/, ""));
      return { type: "event", name: args[0], data: args[1] };
    }
    default: return { type: "unknown" };
  }
}

// Seconds until attempt number n, with jitter so that many pages spread out.
function backoffDelay(attempt, random) {
  const longest = Math.min(60, 2 ** Math.min(attempt, 6));
  return longest / 2 + random * longest / 2;
}

class LiveClient {
  // handlers: onState("live" | "down"), onEvent(name, data)
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.attempt = 0;
    this.watchdog = null;
    this.silence = 60000;
  }

  start() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.expectTraffic(15000);
    socket.onmessage = (message) => this.receive(socket, message.data);
    socket.onclose = () => this.ended(socket);
  }

  receive(socket, frame) {
    if (socket !== this.socket) return;
    let packet;
    try {
      packet = decodeFrame(frame);
    } catch {
      return;
    }
    this.expectTraffic(this.silence);
    if (packet.type === "open") {
      this.silence = packet.data.pingInterval + packet.data.pingTimeout;
      socket.send("40");
    } else if (packet.type === "ping") {
      socket.send("3" + packet.data);
    } else if (packet.type === "connected") {
      this.attempt = 0;
      this.handlers.onState("live");
    } else if (packet.type === "event") {
      this.handlers.onEvent(packet.name, packet.data);
    } else if (["close", "refused", "disconnected"].includes(packet.type)) {
      socket.close();
    }
  }

  // The server pings regularly; without any frame the connection is dead,
  // even if the browser has not noticed.
  expectTraffic(milliseconds) {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => {
      socket.close();
      this.ended(socket);
    }, milliseconds);
  }

  ended(socket) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.watchdog);
    this.handlers.onState("down");
    setTimeout(() => this.start(), 1000 * backoffDelay(this.attempt, Math.random()));
    this.attempt += 1;
  }
}

if (typeof module !== "undefined") module.exports = { decodeFrame, backoffDelay, LiveClient };
