-- SPDX-License-Identifier: GPL-3.0-or-later
-- 60 % a GET that the application caches, 30 % a list of 50 rows, 10 % a write; or one path alone.
local number = 0
local cookie, alone

function init(arguments)
    cookie, alone = arguments[1], arguments[2] == "alone"
end

function request()
    if alone then return wrk.format("GET") end
    number = number + 1
    local turn = number % 10
    if turn < 6 then return wrk.format("GET", "/api/stats") end
    if turn < 9 then return wrk.format("GET", "/api/logs?limit=50", {["Cookie"] = cookie}) end
    return wrk.format("POST", "/api/logs",
        {["X-API-Key"] = "demo-api-key-0001", ["Content-Type"] = "application/json"},
        '{"message": "from the benchmark", "level": "info", "duration_ms": 12.5}')
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(95), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
