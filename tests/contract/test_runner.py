# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook in a private data folder, as AWX runs its jobs; no host is reached."""

from __future__ import annotations

import json
import os
from pathlib import Path

import ansible_runner
import pytest

from .conftest import ROOT, clean_environment

SECRETS = ("s3cret-of-the-database", "pass-of-the-vault")
# An address that nothing answers at.
HOSTS = {"all": {"hosts": {"web1": {"ansible_host": "127.0.0.1", "ansible_port": 9}}}}
BOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))


@pytest.fixture(scope="module")
def folder(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("runner")
    (data / "project").symlink_to(checkout)
    for name in ("env", "inventory", "home"):
        (data / name).mkdir()
    given = {
        "survey_webstack_database_password": SECRETS[0],
        "survey_backup_cipher_pass": SECRETS[0],
        "survey_restore_replaces": "shop",
        "webstack_app_source": str(checkout / "examples"),
        "webstack_app_wsgi": "a:b()",
        "webstack_zebra": "no setting",
    }
    (data / "env" / "extravars").write_text(json.dumps(given))
    (data / "env" / "passwords").write_text(json.dumps({"^Vault password:\\s*?$": SECRETS[1]}))
    (data / "inventory" / "hosts.json").write_text(json.dumps(HOSTS))
    return data


def run(folder: Path, name: str, *options: str) -> ansible_runner.Runner:
    return ansible_runner.run(
        private_data_dir=str(folder),
        playbook=str(folder / "project/playbooks" / name),
        ident=Path(name).name,
        quiet=True,
        cmdline=" ".join(options),
        envvars={
            **{key: value for key, value in clean_environment().items() if "TOKEN" not in key},
            "HOME": str(folder / "home"),
            "ANSIBLE_CONFIG": str(folder / "project" / "ansible.cfg"),
        },
    )


def written(folder: Path) -> dict[str, int]:
    return {
        str(path): path.lstat().st_mtime_ns
        for base, _folders, names in os.walk(folder)
        for path in (Path(base) / name for name in names)
        if "__pycache__" not in path.parts
    }


def test_every_playbook_is_understood_as_a_job(folder: Path, checkout: Path) -> None:
    before = written(checkout)
    books = [{"import_playbook": str(folder / "project/playbooks" / name)} for name in BOOKS]
    (folder / "all.yml").write_text(json.dumps(books))
    job = run(folder, str(folder / "all.yml"), "--syntax-check")
    assert job.rc == 0, job.stdout.read()[-4000:]
    assert written(checkout) == before


@pytest.mark.parametrize("name", ["restore.yml", "upgrade_database.yml"])
def test_a_wrong_setting_stops_a_job_and_shows_no_secret(folder: Path, name: str) -> None:
    groups = {group: {"hosts": {"web1": None}} for group in ("database", "app", "proxy")}
    inventory = {"all": {**HOSTS["all"], "children": groups}}
    (folder / "inventory" / "hosts.json").write_text(json.dumps(inventory))
    job = run(folder, name, "-vvv")
    told = job.stdout.read()
    assert job.rc != 0
    assert "webstack_zebra is not a setting." in told
    assert job.stats and not job.stats["changed"] and not job.stats["dark"]
    for path in (folder / "artifacts" / name).rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not [secret for secret in SECRETS if secret in text], path
