# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the sites that converge.yml asked for."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time

import pytest

pytestmark = pytest.mark.units(
    "nginx.service",
    "upstream@8001.service",
    "upstream@8002.service",
    "upstream@-run-upstream.sock.service",
)

# Runs on the host: a client that chooses its own source address, as nginx tells clients apart.
CLIENT = r"""
import http.client, json, socket, ssl, sys
ask = json.loads(sys.argv[1])
answers = []
for one in ask["requests"]:
    where = (one["address"], one["port"])
    if one["tls"]:
        context = ssl.create_default_context(cafile=one["tls"])
        context.check_hostname = one["tls"] != "/etc/ssl/golive-test.pem"
        context.set_alpn_protocols(["h2", "http/1.1"] if one["h2"] else ["http/1.1"])
        link = http.client.HTTPConnection(*where, timeout=20)
        link.sock = context.wrap_socket(
            socket.create_connection(where), server_hostname=one["headers"]["Host"])
    else:
        link = http.client.HTTPConnection(*where, timeout=20, source_address=(one["source"], 0))
        link.connect()
    cipher = list(link.sock.cipher()) + [link.sock.selected_alpn_protocol()] if one["tls"] else None
    if one["h2"]:
        answers.append({"status": 0, "headers": [], "length": 0, "text": "", "cipher": cipher})
        continue
    link.request(one["method"], one["path"], body=one["body"], headers=one["headers"])
    got = link.getresponse()
    body = got.read() if got.status != 101 else b""
    text = ""
    if one["path"].startswith(("/socket.io/", "/live")) and got.status == 101:
        link.sock.sendall(b"ping \xff\x00")
        text = repr(link.sock.recv(100))
    elif not got.getheader("Content-Encoding"):
        text = body.decode("utf-8", "replace")
    answers.append({"status": got.status, "headers": got.getheaders(), "length": len(body),
                    "text": text, "cipher": cipher})
    link.close()
print(json.dumps(answers))
"""
GIVEN = "/etc/ssl/golive-test.pem"
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Answer:
    def __init__(self, told):
        self.status = told["status"]
        self.text = told["text"]
        self.length = told["length"]
        self.cipher = told["cipher"]
        self._headers = told["headers"]

    def all(self, name):
        return [value for key, value in self._headers if key.lower() == name.lower()]

    def one(self, name):
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    @property
    def told(self):
        """What the application says that it was asked."""
        return json.loads(self.text)


@pytest.fixture
def ask(host):
    def ask(path, *, times=1, name="shop.example", port=8080, source="127.0.0.1", tls="",
            address="127.0.0.1", method="GET", body=None, headers=None, h2=False,
            each=()):  # fmt: skip
        """One answer, or one for each of `times`, or for each of the headers in `each`."""
        one = {
            "path": path, "port": port, "source": source, "tls": tls, "method": method, "h2": h2,
            "body": body, "address": address, "headers": {"Host": name, **(headers or {})},
        }  # fmt: skip
        more = [{**one, "headers": {**one["headers"], **other}} for other in each or [{}] * times]
        done = host.run("python3 -c %s %s", CLIENT, json.dumps({"requests": more}))
        assert done.rc == 0, done.stderr
        answers = [Answer(told) for told in json.loads(done.stdout)]
        return answers[0] if len(more) == 1 else answers

    return ask


@pytest.fixture
def somebody():
    """An address that no limit has seen yet."""
    return f"127.{random.randint(20, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"


@pytest.fixture
def network_address(host):
    return host.check_output("hostname -I").split()[0]


@pytest.fixture
def stopped(host, ask):
    @contextlib.contextmanager
    def stopped(*instances):
        """Stopped, and at the end asked by nginx again: it leaves failed ones out for seconds."""
        units = [f"upstream@{one}" for one in instances]
        host.check_output("systemctl stop " + " ".join(units))
        try:
            yield
        finally:
            host.check_output("systemctl start " + " ".join(units))
            end = time.monotonic() + 30
            seen = set()
            while seen != {"8001", "8002"}:
                assert time.monotonic() < end, f"of both instances, only {seen} served again"
                seen |= {got.told["where"] for got in ask("/", times=6) if got.status == 200}

    return stopped


def test_requests_reach_the_application_with_what_it_has_to_know(ask, somebody):
    told = ask("/some/path?a=b%20c", source=somebody).told
    assert told["path"] == "/some/path?a=b%20c"
    headers = told["headers"]
    assert headers["Host"] == "shop.example"
    assert headers["X-Real-IP"] == headers["X-Forwarded-For"] == somebody
    assert headers["X-Forwarded-Proto"] == "http"
    assert len(headers["X-Request-ID"]) == 32


def test_forwarded_addresses_are_believed_of_the_named_balancer_only(ask, somebody):
    claim = {"X-Forwarded-For": "203.0.113.7"}
    assert ask("/", source="127.9.9.9", headers=claim).told["headers"]["X-Real-IP"] == "203.0.113.7"
    assert ask("/", source=somebody, headers=claim).told["headers"]["X-Real-IP"] == somebody


def test_all_instances_serve_and_one_may_be_away(ask, stopped):
    assert {got.told["where"] for got in ask("/", times=12)} == {"8001", "8002"}
    with stopped(8002):
        assert [got.status for got in ask("/", times=12)] == [200] * 12


def test_security_headers_are_set_once_and_the_applications_own_win(ask):
    bare = ask("/")
    assert bare.one("X-Content-Type-Options") == "nosniff"
    assert bare.one("X-Frame-Options") == "SAMEORIGIN"
    assert bare.one("Referrer-Policy") == "strict-origin-when-cross-origin"
    assert bare.one("Content-Security-Policy") == "default-src 'self'; img-src 'self' data:"
    assert bare.one("X-Request-ID") == bare.told["headers"]["X-Request-ID"]
    assert bare.one("Server") == "nginx"
    own = ask("/own-headers")
    assert own.one("X-Content-Type-Options") == "nosniff"
    assert own.one("X-Frame-Options") == "DENY"
    assert own.one("Referrer-Policy") == "no-referrer"
    assert own.one("Content-Security-Policy") == "default-src 'none'"


def test_the_proxys_security_headers_may_win(ask):
    for path in ("/", "/own-headers"):
        got = ask(path, name="strict.example", port=8082)
        assert got.one("X-Content-Type-Options") == "nosniff"
        assert got.one("X-Frame-Options") == "SAMEORIGIN"
        assert got.one("Referrer-Policy") == "strict-origin-when-cross-origin"
        assert got.one("Content-Security-Policy") == "default-src 'self'"


@pytest.mark.parametrize("path", ["/metrics", "/static/none.css"])
def test_nginxs_own_answers_have_the_headers_too(ask, path):
    got = ask(path, source="127.0.0.3")
    assert got.status in (403, 404)
    assert got.one("X-Content-Type-Options") == "nosniff"
    assert got.one("X-Frame-Options") == "SAMEORIGIN"


def test_rate_limits_are_for_each_client_and_path(ask, somebody):
    api = [got.status for got in ask("/api/rows", times=20, source=somebody)]
    # One a second and five at once beyond it; the twenty requests may take a second or two.
    assert api[:6] == [200] * 6
    assert set(api) == {200, 429}
    assert api.count(429) >= 10
    auth = [got.status for got in ask("/auth/login", times=4, source=somebody, method="POST")]
    assert auth[0] == 200
    assert auth.count(429) >= 2
    assert ask("/", source=somebody).status == 200


def test_allowed_addresses_have_no_limit(ask):
    assert {got.status for got in ask("/api/rows", times=30, source="127.0.0.2")} == {200}


def test_another_client_is_not_limited_by_the_first(ask, somebody):
    ask("/auth/login", times=3, source=somebody)
    assert ask("/auth/login", source="127.19." + somebody.split(".", 2)[2]).status == 200


def test_restricted_paths_are_for_the_named_addresses_only(ask):
    for path, allowed in (("/metrics", "127.0.0.1"), ("/staff/list", "127.0.0.2")):
        assert ask(path, source=allowed).told["path"] == path
        assert ask(path, source="127.0.0.3").status == 403
        claim = {"X-Forwarded-For": allowed, "X-Real-IP": allowed}
        assert ask(path, source="127.0.0.3", headers=claim).status == 403


def test_large_texts_are_compressed_for_those_who_ask(ask):
    plain = ask("/big.json")
    packed = ask("/big.json", headers={"Accept-Encoding": "gzip"})
    assert packed.one("Content-Encoding") == "gzip"
    assert packed.one("Vary") == "Accept-Encoding"
    assert plain.all("Content-Encoding") == []
    assert packed.length * 10 < plain.length
    assert ask("/", headers={"Accept-Encoding": "gzip"}).all("Content-Encoding") == []


@pytest.mark.parametrize("path", ["/socket.io/?transport=websocket", "/live"])
def test_websockets_pass_both_ways(ask, path):
    got = ask(path, headers=WEBSOCKET)
    assert got.status == 101
    assert got.one("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert got.text == repr(b"ping \xff\x00")


def test_connections_are_upgraded_on_the_named_paths_only(ask):
    told = ask("/other", headers=WEBSOCKET).told
    assert "Upgrade" not in told["headers"]


def test_a_live_client_keeps_to_one_instance(ask, somebody):
    assert len({got.told["where"] for got in ask("/live", times=8, source=somebody)}) == 1
    headers = ask("/socket.io/?polling", source=somebody).told["headers"]
    assert headers["X-Real-IP"] == somebody
    assert headers["Host"] == "shop.example"


def test_files_are_served_by_nginx_itself_and_may_be_kept(ask):
    got = ask("/static/style.css")
    assert got.text == "body { color: black }\n"
    assert got.one("Cache-Control") == "max-age=604800"
    assert got.one("Expires")
    assert got.one("Content-Type") == "text/css"
    assert ask("/static/../../../etc/passwd").status in (400, 404)
    assert ask("/static../static/style.css").all("Expires") == []


def test_health_is_not_logged_and_the_rest_is(host, ask, somebody):
    mark = somebody.replace(".", "")
    ask(f"/health?{mark}")
    ask(f"/ready?{mark}")
    request = ask(f"/page?{mark}", source=somebody).told["headers"]["X-Request-ID"]
    logged = host.check_output(f"grep -h {mark} /var/log/nginx/*access.log").splitlines()
    assert len(logged) == 1
    assert re.search(rf' 0\.\d+ 0\.\d+ {request} "127.0.0.1:800\d" "stable"$', logged[0])
    assert host.run(f"grep {mark} /var/log/nginx/shop_1_main_access.log").rc == 0
    as_json = host.check_output(f"grep -h {mark} /var/log/nginx/shop_1_main_access.json.log")
    told = json.loads(as_json)
    assert (told["status"], told["path"], told["remote_addr"]) == (200, f"/page?{mark}", somebody)
    assert (told["request_id"], told["release"]) == (request, "stable")


def test_bodies_and_answers_have_their_limits(ask):
    assert ask("/", method="POST", body="x" * 1024).status == 200
    assert ask("/", method="POST", body="x" * 1025).status == 413
    assert ask("/slow").status == 504


def test_plain_http_is_sent_on_to_tls(ask):
    got = ask("/page?a=b", name="secure.example", port=80)
    assert got.status == 308
    assert got.one("Location") == "https://secure.example/page?a=b"


def test_tls_is_modern_and_the_application_knows_of_it(host, ask):
    got = ask("/", name="secure.example", port=443, tls=GIVEN)
    assert got.cipher[1] == "TLSv1.3"
    assert got.one("Strict-Transport-Security") == "max-age=31536000"
    assert got.told["headers"]["X-Forwarded-Proto"] == "https"
    assert got.told["where"] == "/run/upstream.sock"
    connect = (
        "openssl s_client -connect 127.0.0.1:443 -servername secure.example </dev/null 2>&1 "
        "-cipher ALL:@SECLEVEL=0 "
    )
    assert "ECDHE-RSA-AES" in host.run(connect + "-tls1_2 | grep 'Cipher is'").stdout
    assert "Cipher is (NONE)" in host.run(connect + "-tls1_1 | grep 'Cipher is'").stdout
    assert ask("/", name="secure.example", port=443, tls=GIVEN, h2=True).cipher[-1] == "h2"


def test_a_site_whose_application_is_away_says_so(ask):
    got = ask("/", name="whoever.example", port=8081)
    assert got.status == 502
    assert got.one("X-Frame-Options") == "SAMEORIGIN"


def test_status_is_for_this_host_only(ask, network_address):
    status = ask("/nginx_status", name="localhost", port=8888)
    assert status.text.startswith("Active connections:")
    assert ask("/", name="localhost", port=8888).status == 404
    with pytest.raises(AssertionError, match="refused"):
        ask("/nginx_status", port=8888, address=network_address, source="0.0.0.0")


def test_a_balancers_word_is_believed_and_nobody_elses(ask, somebody):
    given = {"X-Request-ID": "from-the-balancer_1", "X-Forwarded-Proto": "https"}
    balanced = ask("/", source="127.9.9.9", headers=given)
    assert balanced.told["headers"]["X-Request-ID"] == "from-the-balancer_1"
    assert balanced.told["headers"]["X-Forwarded-Proto"] == "https"
    assert balanced.one("X-Request-ID") == "from-the-balancer_1"
    direct = ask("/", source=somebody, headers=given).told["headers"]
    assert len(direct["X-Request-ID"]) == 32
    assert direct["X-Forwarded-Proto"] == "http"
    odd = ask("/", source="127.9.9.9", headers={"X-Request-ID": 'a"b c', "X-Forwarded-Proto": "x"})
    assert len(odd.told["headers"]["X-Request-ID"]) == 32
    assert odd.told["headers"]["X-Forwarded-Proto"] == "http"


def test_headers_of_the_users_own_arrive_as_they_were_written(ask):
    assert ask("/").one("Permissions-Policy") == r'camera=(), report="x\y"'


def test_snippets_and_locations_of_the_users_own(host, ask):
    assert ask("/robots.txt").text == "User-agent: *\n"
    docs = ask("/docs/api")
    assert docs.one("X-Docs") == "yes"
    assert docs.told["path"] == "/docs/api"
    assert "limit_conn users 100;" in host.check_output("nginx -T 2>/dev/null")


def test_unknown_host_names_are_refused(host, ask):
    with pytest.raises(AssertionError, match="RemoteDisconnected"):
        ask("/", name="whoever.example")
    assert ask("/", name="whoever.example", port=8081).status == 502
    shown = host.run(
        "openssl s_client -connect 127.0.0.1:443 -servername whoever.example </dev/null"
    )
    assert "unrecognized name" in shown.stderr
    told = ask("/", name="www.shop.example")
    assert told.status == 200


def test_named_paths_are_cached_for_those_without_a_session(ask, somebody):
    path = f"/cached/{somebody}"
    first, second = ask(path), ask(path)
    assert (first.one("X-Cache-Status"), second.one("X-Cache-Status")) == ("MISS", "HIT")
    assert first.text == second.text
    assert second.one("X-Request-ID") != first.one("X-Request-ID")
    for cookie in ("sid=1", "a=b; odd.name=2", "x=y;sid=3"):
        assert ask(path, headers={"Cookie": cookie}).one("X-Cache-Status") == "BYPASS"
    assert ask(path, headers={"Cookie": "oddxname=1; asid=2"}).one("X-Cache-Status") == "HIT"
    assert ask(path, headers={"Authorization": "x"}).one("X-Cache-Status") == "BYPASS"
    assert ask(f"/other/{somebody}", times=2)[1].all("X-Cache-Status") == []


def test_a_private_answer_is_cached_by_force_only(ask, somebody):
    kept, forced = f"/cached/private?{somebody}", f"/cached-by-force?{somebody}"
    assert [got.one("X-Cache-Status") for got in ask(kept, times=2)] == ["MISS", "MISS"]
    assert [got.one("X-Cache-Status") for got in ask(forced, times=2)] == ["MISS", "HIT"]


def test_cached_answers_survive_an_application_that_is_away(ask, stopped, somebody):
    path = f"/cached/short?{somebody}"
    assert ask(path).one("X-Cache-Status") == "MISS"
    with stopped(8001, 8002):
        # The answer is kept for a second; the site is asked until it is a stale one.
        for _ in range(50):
            got = ask(path)
            assert got.status == 200
            if got.one("X-Cache-Status") in ("STALE", "UPDATING"):
                return
        raise AssertionError("never stale")


def test_files_that_were_compressed_beforehand_are_sent(host, ask):
    packed = ask("/static/large.js", headers={"Accept-Encoding": "gzip"})
    assert packed.one("Content-Encoding") == "gzip"
    assert packed.length == host.file("/srv/shop/static/large.js.gz").size
    assert ask("/static/large.js").text.startswith("let golive")


def releases(ask, name, times=1, **more):
    got = ask("/", times=times, name=name, port=8082, **more)
    served = [one.told["where"] for one in got]
    return got, ["canary" if where == "8002" else "stable" for where in served]


def test_a_share_of_the_visitors_gets_the_new_release_and_keeps_it(host, ask, somebody):
    got, served = releases(ask, "rolled.example", 40)
    assert set(served) == {"canary", "stable"}
    labels = {"canary": "r42", "stable": "r41"}
    assert [one.one("X-Release") for one in got] == [labels[release] for release in served]
    cookies = [one.one("Set-Cookie") for one in got]
    assert all("HttpOnly" in cookie and "Secure" not in cookie for cookie in cookies)
    sent = [{"Cookie": "x=1; " + cookie.split(";")[0]} for cookie in cookies]
    for source in ("127.0.0.1", somebody):
        again, kept = releases(ask, "rolled.example", each=sent, source=source)
        assert kept == served
        assert [one.all("Set-Cookie") for one in again] == [[]] * 40
    ask(f"/{somebody}", name="rolled.example", port=8082)
    logged = host.check_output(f"grep -h {somebody} /var/log/nginx/rolled_access.log")
    assert logged.endswith(('"127.0.0.1:8001" "r41"', '"127.0.0.1:8002" "r42"'))


def test_who_has_the_new_release_keeps_it_while_the_share_grows(ask):
    users = [{"X-User-Id": f"user-{number}"} for number in range(60)]
    having = []
    for name in ("by-user", "by-user-more"):
        _, served = releases(ask, f"{name}.example", each=users)
        having.append({user for user, release in enumerate(served) if release == "canary"})
    assert 0 < len(having[0]) < len(having[1]) < 60
    assert having[0] <= having[1]


def test_the_applications_own_cookie_may_decide(ask):
    sent = [{"Cookie": f"other={again}; sid={user}"} for again in range(3) for user in range(12)]
    _, served = releases(ask, "by-cookie.example", each=sent)
    assert served[:12] == served[12:24] == served[24:]
    assert set(served) == {"canary", "stable"}


def test_a_rollout_may_be_over_or_not_begun(ask):
    assert set(releases(ask, "to-all.example", 8)[1]) == {"canary"}
    got, served = releases(ask, "to-none.example", 8)
    assert set(served) == {"stable"}
    assert got[0].all("Set-Cookie") == got[0].all("X-Release") == []


def test_a_new_release_that_is_gone_is_replaced_by_the_old_one(ask):
    assert set(releases(ask, "broken-canary.example", 8)[1]) == {"stable"}


def test_a_live_connection_keeps_to_its_release_too(ask):
    got = ask("/socket.io/?polling", times=4, name="to-all.example", port=8082)
    assert {one.told["where"] for one in got} == {"8002"}


def test_a_drained_instance_gets_nothing(ask):
    got = ask("/", times=12, name="emptied.example", port=8083)
    assert {one.told["where"] for one in got} == {"8001"}
    live = ask("/socket.io/", times=4, name="emptied.example", port=8083)
    assert {one.told["where"] for one in live} == {"8001"}


@pytest.fixture
def away(host):
    host.check_output("touch /var/lib/nginx/maintenance/shop-1.main")
    yield
    host.check_output("rm -f /var/lib/nginx/maintenance/shop-1.main")


def test_maintenance_tells_people_and_programs(ask, away):
    browser = {"Accept": "text/html,application/xhtml+xml,application/json;q=0.9"}
    for method, body in (("GET", None), ("POST", "x"), ("DELETE", None)):
        got = ask("/page", method=method, body=body, headers=browser)
        assert got.status == 503
        assert got.one("Retry-After") == "77"
        assert got.one("Cache-Control") == "no-store"
        assert got.one("Content-Type") == "text/html"
        assert got.one("X-Frame-Options") == "SAMEORIGIN"
        expected = "<h1>Wartung: $1 für 'Sie' \"jetzt\" \\ {x}</h1>\n"
        assert got.text == expected
    for path, headers in (("/api/rows", browser), ("/page", {"Accept": "application/json"})):
        got = ask(path, headers=headers)
        assert (got.status, got.one("Content-Type")) == (503, "application/json")
        assert got.told["error"] == "maintenance"
    assert ask("/page", name="rolled.example", port=8082).status == 200


def test_maintenance_lets_operators_pass(ask, away):
    assert ask("/page", source="127.0.0.4").told["path"] == "/page"
    assert ask("/page", source="127.0.0.5").status == 503
    claim = {"X-Forwarded-For": "127.0.0.4"}
    assert ask("/page", source="127.0.0.5", headers=claim).status == 503


def test_the_maintenance_page_is_not_a_page_of_the_site(ask):
    assert ask("/golive-maintenance/page.html").status == 404
    assert ask("/page").status == 200


def test_certificates_of_each_kind_are_shown(host, ask):
    tls = "/etc/nginx/golive/tls/"
    for name, bundle in (
        ("made.example", f"{tls}made.self.pem"),
        ("any.made.example", f"{tls}made.self.pem"),
        ("handed.example", f"{tls}handed.given.pem"),
    ):
        got = ask("/", name=name, port=443, tls=bundle)
        assert got.told["headers"]["X-Forwarded-Proto"] == "https"
        assert got.all("Strict-Transport-Security") == []
    for path in ("made.self.key", "handed.given.key"):
        assert host.file(tls + path).mode == 0o600
    assert host.file(tls).mode == 0o700


def fetched(host):
    if not host.file("/etc/letsencrypt").exists:
        pytest.skip("the other host has the ACME server")
    shown = host.check_output(
        "openssl s_client -connect 127.0.0.1:443 -servername www.fetched.example </dev/null "
        "2>/dev/null | openssl x509 -noout -serial -issuer -ext subjectAltName"
    )
    assert "Pebble Intermediate" in shown
    assert "DNS:fetched.example, DNS:www.fetched.example" in shown
    return shown.splitlines()[0]


def test_a_certificate_is_fetched_and_renewed_while_the_site_serves(host, ask):
    before = fetched(host)
    assert host.service("certbot.timer").is_enabled
    assert host.service("certbot.timer").is_running
    renewal = "/etc/letsencrypt/renewal/fetched.conf"
    host.check_output(
        f"sed -i 's/^#* *renew_before_expiry.*/renew_before_expiry = 20 years/' {renewal}"
    )
    ask_by_tls = "openssl s_client -connect 127.0.0.1:443 -servername fetched.example </dev/null"
    done = host.run(
        f"(systemctl start certbot.service; echo $? >/tmp/renewed) & "
        f"asked=0; until [ -s /tmp/renewed ]; do {ask_by_tls} >/dev/null 2>&1 || exit 7; "
        "asked=$((asked + 1)); done; echo $asked; cat /tmp/renewed; rm /tmp/renewed"
    )
    host.check_output(
        f"sed -i 's/^renew_before_expiry.*/# renew_before_expiry = 30 days/' {renewal}"
    )
    assert done.rc == 0, done.stdout
    asked, code = map(int, done.stdout.split())
    log = host.run("tail -n 30 /var/log/letsencrypt/letsencrypt.log").stdout
    assert asked > 1 and code == 0, log
    for _ in range(50):
        if fetched(host) != before:
            return
    raise AssertionError("nginx shows the old certificate: " + log)


def test_nginx_is_confined(host):
    score = host.check_output("systemd-analyze security --no-pager nginx.service").splitlines()[-1]
    found = re.search(r"level for nginx.service: ([0-9.]+)", score)
    assert float(found[1]) <= 2.6, score
    master = host.check_output("cat /run/nginx.pid")
    status = host.file(f"/proc/{master}/status").content_string
    assert re.search(r"NoNewPrivs:\s+1", status)
    assert host.run(f"nsenter -t {master} -m touch /etc/x").rc != 0


def test_a_confined_nginx_opens_its_logs_anew(host, ask, somebody):
    log = "/var/log/nginx/shop_1_main_access.log"
    host.check_output(f"mv {log} {log}.1")
    host.check_output("systemctl kill --kill-who=main --signal=USR1 nginx.service")
    for _ in range(50):
        if host.file(log).exists:
            break
    ask(f"/{somebody}")
    assert somebody in host.file(log).content_string


def test_nothing_keeps_failing_in_its_log(host):
    told = host.run("grep -hE '\\[(emerg|alert)\\]' /var/log/nginx/*error.log").stdout
    assert [line for line in told.splitlines() if "bind()" not in line] == []


def test_nginx_was_never_restarted_and_starts_at_boot(host):
    first = host.file("/var/lib/golive-test-changes").content_string.strip()
    assert host.check_output("systemctl show -p MainPID --value nginx") == first
    assert host.service("nginx").is_enabled
    assert host.run("nginx -t").stderr.count("conflicting") == 0
    assert not host.file("/etc/nginx/sites-enabled/default").exists


def test_workers_may_open_enough_files(host):
    workers = host.check_output("pgrep -f 'nginx: worker'").split()
    limits = host.file(f"/proc/{workers[0]}/limits").content_string
    assert "Max open files            1024 " in limits


def test_a_killed_nginx_comes_back(host, ask):
    host.check_output("kill -9 $(cat /run/nginx.pid)")
    try:
        for _ in range(100):
            state = host.check_output("systemctl show -P ActiveState nginx")
            if state == "active" and ask("/").status == 200:
                return
        raise AssertionError(state)
    finally:
        host.check_output("cat /run/nginx.pid >/var/lib/golive-test-changes")
