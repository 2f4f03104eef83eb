# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the sites that converge.yml asked for."""

from __future__ import annotations

import json
import random

import pytest

pytestmark = pytest.mark.units(
    "nginx.service",
    "upstream@8001.service",
    "upstream@8002.service",
    "upstream@-run-upstream.sock.service",
)

# Runs on the host: a client that chooses its own source address, as nginx tells clients apart.
CLIENT = r"""
import http.client, json, ssl, sys
ask = json.loads(sys.argv[1])
answers = []
for one in ask["requests"]:
    where = (one["address"], one["port"])
    if one["tls"]:
        context = ssl.create_default_context(cafile="/etc/ssl/golive-test.pem")
        context.check_hostname = False
        link = http.client.HTTPSConnection(*where, context=context, timeout=20)
    else:
        link = http.client.HTTPConnection(*where, timeout=20, source_address=(one["source"], 0))
    link.connect()
    cipher = link.sock.cipher() if one["tls"] else None
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
    def ask(path, *, times=1, name="shop.example", port=8080, source="127.0.0.1", tls=False,
            address="127.0.0.1", method="GET", body=None, headers=None):  # fmt: skip
        one = {
            "path": path, "port": port, "source": source, "tls": tls, "method": method,
            "body": body, "address": address, "headers": {"Host": name, **(headers or {})},
        }  # fmt: skip
        done = host.run("python3 -c %s %s", CLIENT, json.dumps({"requests": [one] * times}))
        assert done.rc == 0, done.stderr
        answers = [Answer(told) for told in json.loads(done.stdout)]
        return answers[0] if times == 1 else answers

    return ask


@pytest.fixture
def somebody():
    """An address that no limit has seen yet."""
    return f"127.{random.randint(20, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"


@pytest.fixture
def network_address(host):
    return host.check_output("hostname -I").split()[0]


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


def test_all_instances_serve_and_one_may_be_away(host, ask):
    assert {got.told["where"] for got in ask("/", times=12)} == {"8001", "8002"}
    host.check_output("systemctl stop upstream@8002")
    try:
        assert [got.status for got in ask("/", times=12)] == [200] * 12
    finally:
        host.check_output("systemctl start upstream@8002")


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
    request = ask(f"/page?{mark}").told["headers"]["X-Request-ID"]
    logged = host.check_output(f"grep -h {mark} /var/log/nginx/*access.log").splitlines()
    assert len(logged) == 1
    assert logged[0].endswith(request)
    assert host.run(f"grep {mark} /var/log/nginx/shop_1_main_access.log").rc == 0


def test_bodies_and_answers_have_their_limits(ask):
    assert ask("/", method="POST", body="x" * 1024).status == 200
    assert ask("/", method="POST", body="x" * 1025).status == 413
    assert ask("/slow").status == 504


def test_plain_http_is_sent_on_to_tls(ask):
    got = ask("/page?a=b", name="secure.example", port=80)
    assert got.status == 308
    assert got.one("Location") == "https://secure.example/page?a=b"


def test_tls_is_modern_and_the_application_knows_of_it(host, ask):
    got = ask("/", name="secure.example", port=443, tls=True)
    assert got.cipher[1] == "TLSv1.3"
    assert got.one("Strict-Transport-Security") == "max-age=31536000"
    assert got.told["headers"]["X-Forwarded-Proto"] == "https"
    assert got.told["where"] == "/run/upstream.sock"
    connect = "openssl s_client -connect 127.0.0.1:443 </dev/null 2>&1 -cipher ALL:@SECLEVEL=0 "
    assert "ECDHE-RSA-AES" in host.run(connect + "-tls1_2 | grep 'Cipher is'").stdout
    assert "Cipher is (NONE)" in host.run(connect + "-tls1_1 | grep 'Cipher is'").stdout


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
