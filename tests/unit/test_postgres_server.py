# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role postgres decides without a server."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server import hba, tables
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.host import (
    clusters,
    disk_kind,
    libraries,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.indexes import (
    Existing,
    Index,
    decide,
    problems,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.openpgp import (
    fingerprint,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.privileges import (
    Database,
    State,
    membership_statements,
    statements,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.tls import prepare

GOOD = {"database": "shop", "user": "shop", "address": "10.0.0.5/32"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, ""),
        ({"address": "app1.example.org"}, ""),
        ({"address": "fd00::1/128"}, ""),
        ({"database": "all", "user": "all"}, ""),
        ({"database": "replication", "user": "+standbys"}, "names the role standbys"),
        ({"database": '"all"'}, "names the database all"),
        ({"user": "nobody"}, "names the role nobody"),
        ({"address": ""}, "has no address"),
        ({"address": "10.0.0.5"}, "for one host write 10.0.0.5/32"),
        ({"address": "fd00::1"}, "for one host write fd00::1/128"),
        ({"address": "10.0.0.5/24"}, "the network with that mask is 10.0.0.0/24"),
        ({"address": "10.0.0.0/33"}, "which is no network"),
        ({"address": "a b"}, "neither a network nor a host name"),
        ({"method": "trust"}, "lets anybody on that network in"),
        ({"method": "password"}, "in the clear"),
        ({"method": "scram"}, "has the method scram; known here: scram-sha-256"),
        ({"method": "peer"}, "has the method peer; known here"),
        ({"method": "cert"}, "needs type: hostssl"),
        ({"type": "hostssl"}, "needs postgres_tls_certificate"),
        ({"type": "local"}, "is local and has an address"),
        ({"type": "ssl"}, "has the type ssl"),
        ({"user": "/^a"}, "for a regular expression"),
        ({"options": "a\nhost all"}, "has a line break"),
    ],
)
def test_a_rule_that_cannot_work_is_named(entry: dict[str, str], told: str) -> None:
    found = hba.problems([GOOD, {**GOOD, **entry}], ["shop"], ["shop"])
    assert bool(found) == bool(told)
    if told:
        assert told in found[0]
        assert found[0].startswith("postgres_hba_entries, entry 2 (database ")


def test_with_a_certificate_the_network_has_no_plain_way_in() -> None:
    assert hba.line(GOOD, True).startswith("hostssl ")
    assert hba.line({**GOOD, "address": "::1/128"}, True).startswith("host ")
    assert "is hostnossl" in hba.problems([{**GOOD, "type": "hostnossl"}], tls=True)[0]
    assert not hba.problems([{**GOOD, "method": "cert"}], tls=True)


def test_what_a_server_does_not_tell_is_not_refused() -> None:
    assert not hba.problems([{**GOOD, "user": "unknown"}])


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2, "big") + body


def armoured(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    return (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\n"
        f"{text}\n=AbCd\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_a_fingerprint_is_of_the_primary_key() -> None:
    body = b"\x04" + b"\x00" * 4 + b"\x16" + b"key" * 9
    told = fingerprint(armoured(packet(6, body) + packet(13, b"name") + packet(14, b"\x04sub")))
    assert told == hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing", "not one OpenPGP public key"),
        (armoured(packet(6, b"\x04a") * 2), "holds 2 primary keys"),
        (armoured(packet(13, b"a")), "holds 0 primary keys"),
        (armoured(packet(6, b"\x03a")), "too old"),
        (armoured(b"\x01\x02"), "a packet that is none"),
        (armoured(b"\xc6"), "cut short"),
        (armoured(b"").replace("\n\n\n", "\n\n!!!\n"), "damaged"),
    ],
)
def test_what_is_no_single_key_is_refused(text: str, told: str) -> None:
    with pytest.raises(PostgresError, match=told):
        fingerprint(text)


def test_clusters_and_libraries(tmp_path: Path) -> None:
    for name in ("9.6", "17", "15"):
        (tmp_path / "etc" / name).mkdir(parents=True)
    (tmp_path / "etc" / "file").touch()
    assert clusters(str(tmp_path / "etc")) == ["9.6", "15", "17"]
    assert clusters(str(tmp_path / "none")) == []
    (tmp_path / "lib/15/bin").mkdir(parents=True)
    (tmp_path / "lib/15/lib").mkdir()
    (tmp_path / "lib/16/lib").mkdir(parents=True)
    for name in ("15/bin/postgres", "15/lib/auto_explain.so", "15/lib/readme"):
        (tmp_path / "lib" / name).touch()
    assert libraries(str(tmp_path / "lib")) == {"15": ["auto_explain"]}


@pytest.mark.parametrize(("flag", "kind"), [("1", "hdd"), ("0", "ssd"), (None, "unknown")])
def test_the_kernel_tells_the_disk(tmp_path: Path, flag: str | None, kind: str) -> None:
    import os

    device = os.stat(tmp_path).st_dev
    disk = tmp_path / "block/sda"
    (disk / "sda1").mkdir(parents=True)
    if flag:
        (disk / "queue").mkdir()
        (disk / "queue/rotational").write_text(flag + "\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / f"{os.major(device)}:{os.minor(device)}").symlink_to(disk / "sda1")
    assert disk_kind(str(tmp_path), str(tmp_path / "dev")) == kind


def make_pair(folder: Path, name: str, days: str = "2") -> tuple[str, str]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-subj", f"/CN={name}", "-days", days, "-keyout", str(key)]
        + ["-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(certificate), str(key)


def test_a_pair_is_proved(tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path, "a")
    given = {"certificate": certificate, "key": key, "ca": certificate}
    made = prepare(given)
    assert sorted(made) == ["root.crt", "server.crt", "server.key"]
    texts = {part: Path(path).read_text() for part, path in given.items()}
    assert prepare(texts) == made


def test_a_pair_that_cannot_work_is_refused(tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path, "a")
    _other_certificate, other = make_pair(tmp_path, "b")
    empty = tmp_path / "empty"
    empty.touch()
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", str(locked), "-passout", "pass:x"],
        check=True,
    )
    for given, told in (
        ({"key": other}, "the key is not this certificate's"),
        ({"key": certificate}, "no private key"),
        ({"key": "/nowhere.key"}, "postgres_tls_key: /nowhere.key can't be read"),
        ({"key": str(locked)}, "passphrase"),
        ({"key": ""}, "postgres_tls_key is not set"),
        ({"certificate": str(empty)}, "Give the certificate"),
        ({"ca": str(empty)}, "no certificate of an authority"),
    ):
        with pytest.raises(PostgresError, match=told):
            prepare({"certificate": certificate, "key": key, "ca": "", **given})
    with pytest.raises(PostgresError, match="^web_tls_key"):
        prepare({"certificate": certificate, "key": "/nowhere"}, setting="web_tls")
    assert prepare({"certificate": "/nowhere.crt", "key": key}, missing_ok=True) == {}


ORDERS = {("public", "orders"): {"id", "day", "customer_id", "note"}}
PRIMARY = Existing("orders_pkey", ("id",), True, True, "btree", True)
DAYS = Existing("days", ("day", "id"), True, False, "btree", True)


def wanted(**given: Any) -> Index:
    return Index(**{"database": "shop", "table": "orders", "columns": ("day",), **given})


@pytest.mark.parametrize(
    ("index", "there", "action"),
    [
        (wanted(), [], "create"),
        (wanted(), [PRIMARY], "create"),
        (wanted(), [DAYS], "covered"),
        (wanted(columns=("id",)), [PRIMARY], "covered"),
        (wanted(columns=("id",), unique=True), [PRIMARY], "covered"),
        (wanted(columns=("day", "id"), unique=True), [DAYS], "create"),
        (wanted(columns=("id", "day")), [DAYS], "create"),
        (wanted(), [replace(DAYS, valid=False)], "create"),
        (wanted(), [replace(DAYS, plain=False)], "create"),
        (wanted(where="id > 5"), [DAYS], "create"),
        (wanted(method="brin"), [DAYS], "create"),
        (wanted(name="days", columns=("day", "id")), [DAYS], "present"),
        (wanted(name="days"), [replace(DAYS, valid=False)], "replace"),
        (wanted(name="x", columns=(), expression="lower(note)"),
         [Existing("x", (), False, False, "btree", True)], "present"),
        (wanted(table="none"), [], "absent"),
        (wanted(columns=("none",)), [], "absent"),
    ],
)  # fmt: skip
def test_what_becomes_of_an_index(index: Index, there: list[Existing], action: str) -> None:
    assert decide(index, ORDERS, {one.name: one for one in there}).action == action


def test_an_index_that_is_asked_for_covers_another_from_the_first_run_on() -> None:
    longer = wanted(columns=("day", "id"))
    assert decide(wanted(), ORDERS, {}, [wanted(), longer]).why == longer.index_name
    for other in (wanted(columns=("day", "none")), wanted(columns=("id", "day")),
                  wanted(columns=("day", "id"), where="true"), wanted(name="same")):  # fmt: skip
        assert decide(wanted(), ORDERS, {}, [wanted(), other]).action == "create"
    assert decide(wanted(unique=True), ORDERS, {}, [longer]).action == "create"


@pytest.mark.parametrize(
    ("index", "there", "told"),
    [
        (wanted(name="days"), DAYS, "another index called days"),
        (wanted(name="days", columns=("day", "id"), unique=True), DAYS, "another index called"),
        (wanted(name="days", columns=("day", "id"), where="true"), DAYS, "another index called"),
        (wanted(name="days"), replace(DAYS, valid=False, building=77), "by the process 77"),
    ],
)
def test_an_index_of_somebody_else_stays(index: Index, there: Existing, told: str) -> None:
    with pytest.raises(PostgresError, match=told):
        decide(index, ORDERS, {there.name: there})


def test_an_index_is_made_beside_those_who_write() -> None:
    one = wanted(columns=("day", 'a"b'), unique=True, where="id > 5", name="x")
    assert one.statement() == (
        'CREATE UNIQUE INDEX CONCURRENTLY "x" ON "public"."orders" USING btree ("day", "a""b")'
        " WHERE id > 5"
    )
    assert wanted().index_name == "orders_day_idx"
    names = {wanted(where=text).index_name for text in ("", "id > 5", "id > 6")}
    assert len(names) == 3
    assert len(wanted(table="t" * 60, columns=("c" * 60,)).index_name.encode()) <= 63


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"columns": ()}, "either columns or an expression"),
        ({"expression": "lower(note)"}, "either columns or an expression"),
        ({"method": "tree"}, "known: btree"),
        ({"method": "gin", "unique": True}, "only btree"),
        ({"name": "n" * 64}, "longer than 63"),
        ({"columns": ("id",), "name": "orders_day_idx"}, "the same name as"),
    ],
)
def test_an_index_that_cannot_be_is_named(given: dict[str, Any], told: str) -> None:
    found = problems([wanted(), wanted(**given)])
    assert told in found[0] and "entry 2 (shop: public.orders" in found[0]
    assert not problems([wanted()])


SHOP = Database("shop", "owner", writers=("app",), readers=("reader",), connect=("admin",))
EVERYBODY = {("", "CONNECT"), ("", "TEMPORARY"), ("owner", "CONNECT")}


def test_a_new_database_is_divided() -> None:
    state = State(
        owner="owner",
        database=set(EVERYBODY),
        schemas={"public": {("", "USAGE"), ("", "CREATE")}},
        relations={("public", "r"): 3},
    )
    done = statements(SHOP, state)
    assert done[0] == 'REVOKE CONNECT, TEMPORARY ON DATABASE "shop" FROM PUBLIC'
    assert 'GRANT CONNECT ON DATABASE "shop" TO "admin"' in done
    assert 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC' in done
    assert 'GRANT USAGE, CREATE ON SCHEMA "public" TO "owner"' in done
    assert 'GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO "reader"' in done
    assert (
        'ALTER DEFAULT PRIVILEGES FOR ROLE "owner" IN SCHEMA "public"'
        ' GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "app"'
    ) in done
    # There is no sequence yet, only what is to become of those that come.
    assert not [text for text in done if "ALL SEQUENCES" in text]


def divided() -> State:
    state = State(owner="owner", relations={("public", "r"): 3})
    state.database = {("owner", "CONNECT"), ("app", "CONNECT"), ("app", "TEMPORARY"),
                      ("reader", "CONNECT"), ("admin", "CONNECT")}  # fmt: skip
    state.schemas = {"public": {("app", "USAGE"), ("reader", "USAGE")}}
    write = ("SELECT", "INSERT", "UPDATE", "DELETE")
    state.granted = {("public", "r", "app", p): 3 for p in write}
    state.granted[("public", "r", "reader", "SELECT")] = 3
    state.future = {
        ("public", "r"): {("app", p) for p in write} | {("reader", "SELECT")},
        ("public", "S"): {("app", p) for p in ("USAGE", "SELECT", "UPDATE")}
        | {("reader", "SELECT")},
    }
    return state


def test_a_database_that_is_divided_stays() -> None:
    assert statements(SHOP, divided()) == []


def test_one_table_that_lacks_a_right_is_enough() -> None:
    state = divided()
    state.granted[("public", "r", "reader", "SELECT")] = 2
    assert statements(SHOP, state) == ['GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO "reader"']


def test_what_a_writer_owns_goes_to_the_owner() -> None:
    state = divided()
    state.owned_by = {"app": 4}
    assert statements(SHOP, state)[0] == 'REASSIGN OWNED BY "app" TO "owner"'
    state.other_databases = {"app": ["other"]}
    with pytest.raises(PostgresError, match="the databases other too"):
        statements(SHOP, state)


def test_an_extension_that_is_not_installed_is_named() -> None:
    with pytest.raises(PostgresError, match="postgis are not installed.*postgres_extra_packages"):
        statements(replace(SHOP, extensions=("postgis",)), divided())


def test_members() -> None:
    known = {"admin", "pg_monitor", "reader"}
    given = {"admin": ["pg_monitor", "reader"]}
    assert membership_statements(given, {("admin", "reader")}, known) == [
        'GRANT "pg_monitor" TO "admin"'
    ]
    with pytest.raises(PostgresError, match="admin: member_of names nobody"):
        membership_statements({"admin": ["nobody"]}, set(), known)


@pytest.mark.parametrize(
    ("rows", "current", "lacking"),
    [
        (999_999, {}, []),
        (1_000_000, {}, ["0.02", "0.05", "0.05"]),
        (20_000_000, {}, ["0.01", "0.02", "0.02"]),
        (200_000_000, {}, ["0.005", "0.005", "0.005"]),
        (1_000_000, {"autovacuum_vacuum_scale_factor": "0.3"}, ["0.02", "0.05"]),
        (20_000_000, {"autovacuum_vacuum_scale_factor": "0.05"}, ["0.01", "0.02", "0.02"]),
        # Smaller than before: nothing is raised again.
        (1_000_000, {"autovacuum_vacuum_scale_factor": "0.005"}, ["0.02", "0.05"]),
    ],
)
def test_autovacuum_follows_the_size(
    rows: int, current: dict[str, str], lacking: list[str]
) -> None:
    found = tables.by_size(rows, current)
    assert sorted(found.values()) == lacking
    assert tables.by_size(rows, {**current, **found}) == {}


def test_given_parameters_win_over_the_size() -> None:
    table = tables.Table("public", "big", 2_000_000, {"fillfactor": "85"})
    given = {("public", "big"): {"fillfactor": 85, "autovacuum_vacuum_scale_factor": 0.3}}
    assert tables.statements([table], given, True) == [
        'ALTER TABLE "public"."big" SET (autovacuum_analyze_scale_factor = \'0.02\','
        " autovacuum_vacuum_insert_scale_factor = '0.05', autovacuum_vacuum_scale_factor = '0.3')"
    ]
    with pytest.raises(PostgresError, match="is no storage parameter"):
        tables.refuse([{"table": "big", "settings": {"a) RESET (b": 1}}])
