"use strict";

(function () {
  const POLL_MS = 10000;
  const STATS_MS = 30000;
  const MAX_ROWS = 500;

  const table = document.getElementById("logs");
  const body = table.tBodies[0];
  const empty = document.getElementById("empty");
  const older = document.getElementById("older");
  const pill = document.getElementById("connection");
  const appFilter = document.getElementById("filter-app");
  const levelFilter = document.getElementById("filter-level");
  const pageSize = Number(table.dataset.pageSize);
  let live = false;
  let pollTimer = null;
  let request = 0;

  function show(state, text) {
    pill.className = "pill " + state;
    pill.textContent = text;
  }

  async function getJson(path) {
    const response = await fetch(path, { headers: { Accept: "application/json" } });
    if (response.status === 401) {
      location.reload();
    }
    if (!response.ok) throw new Error("HTTP " + response.status);
    return response.json();
  }

  function cell(row, className, text, innerTag, innerClass) {
    const td = row.insertCell();
    td.className = className;
    let target = td;
    if (innerTag) {
      target = document.createElement(innerTag);
      target.className = innerClass;
      td.append(target);
    }
    target.textContent = text;
    return target;
  }

  function makeRow(log, fresh) {
    const row = document.createElement("tr");
    row.dataset.id = log.id;
    if (fresh) row.className = "new";
    cell(row, "time", log.created_at.slice(0, 19).replace("T", " "));
    cell(row, "", log.level, "span", "level " + log.level);
    cell(row, "app", log.app);
    cell(row, "message", log.message, "div", "").title = log.message;
    cell(row, "", log.is_valid ? "passed" : "failed", "span",
      "check " + (log.is_valid ? "ok" : "broken"));
    cell(row, "number", log.duration_ms === null ? "" : log.duration_ms.toFixed(1) + " ms");
    return row;
  }

  function settle() {
    while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
    empty.hidden = body.rows.length > 0;
  }

  function wanted(log) {
    return (!appFilter.value || Number(appFilter.value) === log.app_id)
      && (!levelFilter.value || levelFilter.value === log.level);
  }

  // Rows are kept in descending order of id; updates may come out of order.
  function addRow(log) {
    if (!wanted(log)) return;
    let next = body.firstElementChild;
    while (next && Number(next.dataset.id) > log.id) next = next.nextElementSibling;
    if (next && Number(next.dataset.id) === log.id) return;
    body.insertBefore(makeRow(log, true), next);
    settle();
  }

  function query(extra) {
    const params = new URLSearchParams({ limit: pageSize, ...extra });
    if (appFilter.value) params.set("app_id", appFilter.value);
    if (levelFilter.value) params.set("level", levelFilter.value);
    return "/api/logs?" + params;
  }

  async function reload() {
    const mine = ++request;
    const page = await getJson(query({}));
    if (mine !== request) return;
    body.replaceChildren(...page.items.map((log) => makeRow(log, false)));
    older.hidden = page.next_offset === null;
    settle();
  }

  async function catchUp() {
    const mine = request;
    const page = await getJson(query({}));
    if (mine === request) page.items.reverse().forEach(addRow);
  }

  async function loadOlder() {
    const last = body.lastElementChild;
    if (!last) return;
    const mine = request;
    const page = await getJson(query({ before_id: last.dataset.id }));
    if (mine !== request) return;
    body.append(...page.items.map((log) => makeRow(log, false)));
    older.hidden = page.next_offset === null || body.rows.length >= MAX_ROWS;
    settle();
  }

  async function loadStats() {
    const stats = await getJson("/api/stats");
    for (const [name, count] of Object.entries(stats.counts)) {
      const target = document.querySelector(`[data-count="${name}"]`);
      if (target) target.textContent = count.toLocaleString("en-US");
    }
  }

  function addToCount(name) {
    const target = document.querySelector(`[data-count="${name}"]`);
    const count = Number(target.textContent.replaceAll(",", "")) + 1;
    target.textContent = count.toLocaleString("en-US");
  }

  async function poll() {
    try {
      await catchUp();
      await loadStats();
      if (!live) show("polling", "Every 10 s");
    } catch {
      if (!live) show("offline", "Offline");
    }
  }

  function onState(state) {
    live = state === "live";
    clearInterval(pollTimer);
    if (live) {
      show("live", "Live");
      catchUp().catch(() => {});
    } else {
      poll();
      pollTimer = setInterval(poll, POLL_MS);
    }
  }

  function onEvent(name, log) {
    if (name !== "log_entry") return;
    addRow(log);
    addToCount("log_entries");
  }

  function quietly(action) {
    return () => action().catch(() => {});
  }

  appFilter.addEventListener("change", quietly(reload));
  levelFilter.addEventListener("change", quietly(reload));
  older.addEventListener("click", quietly(loadOlder));
  setInterval(quietly(async () => { if (live) await loadStats(); }), STATS_MS);

  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const url = `${scheme}//${location.host}/socket.io/?EIO=4&transport=websocket`;
  new LiveClient(url, { onState, onEvent }).start();
})();
