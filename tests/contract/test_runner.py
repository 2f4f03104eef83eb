# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook in a private data folder, as AWX runs its jobs; no host is reached.

The project is mounted read-only, and the home is the private data folder, as a job's /runner is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.awx_api import Api

from .conftest import ROOT, clean_environment

SECRETS = {
    "survey": "s3cret-of-the-database",
    "vault's password": "pass-of-the-vault",
    "vault": "s3cret-in-the-vault",
    "notification": "t0ken-of-the-chat",
}
# An address that nothing answers at.
HOSTS = {"web1": {"ansible_host": "127.0.0.1", "ansible_port": 9}}
GROUPS = {group: {"hosts": {"web1": None}} for group in ("database", "app", "proxy")}
BOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
GIVEN = {"env", "inventory", "project", "all.yml"}
# Root's bind mount is one that root can't write through either. Others become root in a namespace.
MOUNTED = """
mount --bind "$1" "$2" && mount -o remount,bind,ro,nosuid,nodev "$2" || exit 96
if touch "$2/written" 2>&-; then exit 97; fi
shift 2
exec "$@"
"""
ALONE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with Api() as running:
        yield running


@pytest.fixture(scope="module")
def folder(checkout: Path, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() and subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("only root can mount here")
    data = tmp_path_factory.mktemp("runner")
    for name in ("env", "inventory/group_vars", "project"):
        (data / name).mkdir(parents=True)
    given = {
        "survey_webstack_database_password": SECRETS["survey"],
        "survey_backup_cipher_pass": SECRETS["survey"],
        "survey_restore_replaces": "shop",
        "webstack_app_source": str(data / "project/examples"),
        "webstack_app_wsgi": "a:b()",
        "awx_application": "shop",
        "awx_project_url": "https://git.example.com/ops.git",
        "awx_inventory_path": "inventories/shop/hosts.yml",
        "awx_machine_credential": "shop machines",
        "awx_secrets": {"webstack_database_password": SECRETS["survey"]},
        "awx_notifications": [
            {"name": "chat", "type": "slack", "configuration": {"token": SECRETS["notification"]}}
        ],
        # What they do is tests/contract/test_awx.py's.
        **{f"awx_{kind}": [] for kind in ("job_templates", "workflows", "schedules")},
    }
    (data / "env/extravars").write_text(json.dumps(given))
    told = {"^Vault password:\\s*?$": SECRETS["vault's password"]}
    (data / "env/passwords").write_text(json.dumps(told))
    (data / "env/vault").write_text(SECRETS["vault's password"])
    reached = {"CONTROLLER_HOST": api.address, "CONTROLLER_OAUTH_TOKEN": "token"}
    (data / "env/envvars").write_text(json.dumps(reached))
    inventory = {"all": {"hosts": HOSTS, "children": GROUPS}}
    (data / "inventory/hosts.json").write_text(json.dumps(inventory))
    # Whether it was opened is seen by the setting that is none.
    secret = {"webstack_redis_password": SECRETS["vault"], "webstack_zebra": "no setting"}
    vault = VaultLib([("default", VaultSecret(SECRETS["vault's password"].encode()))])
    (data / "inventory/group_vars/all.yml").write_bytes(vault.encrypt(json.dumps(secret)))
    books = [{"import_playbook": str(data / "project/playbooks" / name)} for name in BOOKS]
    (data / "all.yml").write_text(json.dumps(books))
    return data


class Job:
    """What a job has left in the folder of its artifacts."""

    def __init__(self, folder: Path, checkout: Path, name: str, *options: str) -> None:
        before = written(checkout)
        self.artifacts = folder / "artifacts" / Path(name).stem
        runner = str(Path(sys.executable).parent / "ansible-runner")
        done = subprocess.run(
            [
                *(*ALONE, "sh", "-c", MOUNTED, "sh", str(checkout), str(folder / "project")),
                *(runner, "run", str(folder), "-p", name, "--ident", self.artifacts.name),
                *("--quiet", f"--cmdline={' '.join(options)}"),
            ],
            env={
                **{key: value for key, value in clean_environment().items() if "TOKEN" not in key},
                "HOME": str(folder),
                "ANSIBLE_CONFIG": str(folder / "project/ansible.cfg"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert self.artifacts.is_dir(), (done.returncode, done.stdout, done.stderr)
        self.code = int((self.artifacts / "rc").read_text())
        self.told = (self.artifacts / "stdout").read_text()
        assert written(checkout) == before
        assert list((folder / "project").iterdir()) == []

    @property
    def stats(self) -> dict[str, Any]:
        for path in (self.artifacts / "job_events").glob("*.json"):
            event = json.loads(path.read_text())
            if event["event"] == "playbook_on_stats":
                stats: dict[str, Any] = event["event_data"]
                return stats
        return {}


def written(folder: Path) -> dict[str, int]:
    return {
        str(path): path.lstat().st_mtime_ns
        for base, _folders, names in os.walk(folder)
        for path in (Path(base) / name for name in names)
    }


def test_every_playbook_is_understood_as_a_job(folder: Path, checkout: Path) -> None:
    vault = f"--vault-password-file={folder}/env/vault"
    job = Job(folder, checkout, str(folder / "all.yml"), "--syntax-check", vault)
    assert job.code == 0, job.told[-4000:]


# The vault's password is asked for, or in a file: AWX has both.
@pytest.mark.parametrize(
    ("name", "vault"),
    [
        ("restore.yml", "--ask-vault-pass"),
        ("upgrade_database.yml", "--vault-password-file={}/env/vault"),
    ],
)
def test_a_wrong_setting_stops_a_job(folder: Path, checkout: Path, name: str, vault: str) -> None:
    job = Job(folder, checkout, f"playbooks/{name}", "-vvv", vault.format(folder))
    assert job.code != 0
    assert "webstack_zebra is not a setting." in job.told
    assert job.stats["failures"] and not job.stats["changed"] and not job.stats["dark"]


def test_a_job_that_works(folder: Path, checkout: Path, api: Api) -> None:
    job = Job(folder, checkout, "playbooks/awx_configure.yml", "-vvv", "--ask-vault-pass")
    assert job.code == 0, job.told[-4000:]
    assert job.stats["changed"]["localhost"] > 0
    kept = [str(item.get("inputs", item.get("notification_configuration")))
            for item in api.objects.values()]  # fmt: skip
    for name in ("survey", "notification"):
        assert any(SECRETS[name] in told for told in kept)


def test_jobs_leave_no_secret_and_no_file(folder: Path) -> None:
    """Reads what the tests before this one have left."""
    files = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert len([path for path in files if path.parent.name == "job_events"]) > 20
    for path in files:
        text = path.read_text(errors="replace")
        for name, secret in SECRETS.items():
            assert secret not in text, f"{name} is in {path}"
    assert {path.name for path in folder.iterdir()} <= GIVEN | {"artifacts", ".ansible"}
    assert [path for path in (folder / ".ansible").rglob("*") if path.is_file()] == []
