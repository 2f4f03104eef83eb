# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as Galaxy takes it: archive, ansible-test, Galaxy's importer, documentation.

Also the execution environment: its build context, and what it lists, installed.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.collections import TARGET
from tools.common import CACHE, ROOT, ToolError, capture
from tools.python_env import choose_interpreter, environment, make_venv

# What an archive may hold at its top; whatever else turns up is a leak.
TOP = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "ansible.cfg"),
    *("requirements.yml", "FILES.json", "MANIFEST.json"),
    *("awx", "changelogs", "docs", "meta", "playbooks", "plugins", "roles", "tests"),
}
TESTS = {"__init__.py", "awx_api.py", "playing.py", "unit"}
NEVER = re.compile(
    r"(^|/)(\.(?!gitkeep)[^/]*|__pycache__|[^/]*\.(pyc|db|sqlite3?|key|pem|log|retry|vault))(/|$)"
)
# The slow ones beside all others.
SLOW = ("pylint", "validate-modules")
# All of them pass in this way too; these show it, as the stage unit runs them all.
UNITS = tuple(
    f"tests/unit/test_{name}.py" for name in ("filters", "module_documentation", "redis_server")
)
# ansible-test fetches a script for pip from a site of its own; this one does without.
GET_PIP = """\
import subprocess, sys
given = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip"])
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *given]))
"""
IMPORTER = """\
[galaxy-importer]
RUN_ANSIBLE_TEST=False
RUN_ANSIBLE_LINT=False
CHECK_REQUIRED_TAGS=False
"""
# Pages of Ansible's own documentation that ours point to.
ELSEWHERE = ("action", "callback", "filter", "lookup", "strategy", "test")
KINDS = {"modules": "module"}


Check = Callable[..., None]


class Work:
    """One run: the folders, and how a command is called."""

    def __init__(self, folder: Path, check: Check, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.check = check
        interpreter = choose_interpreter()
        self.version = interpreter.version
        self.venv = ROOT / ".venv" / "galaxy"
        make_venv(self.venv, interpreter, [lock(interpreter.version)], "Galaxy's checks")
        self.archive = Path()
        self.installed = folder / "installed"

    def writing_to(self, check: Check, say: Callable[[str], None]) -> Work:
        """The same for a part that has a log of its own."""
        part = copy.copy(self)
        part.check, part.say = check, say
        return part

    @property
    def collection(self) -> Path:
        return self.installed / "ansible_collections" / "golive" / "webstack"

    def copied(self, name: str) -> Path:
        place = self.folder / name / self.collection.relative_to(self.installed)
        shutil.copytree(self.collection, place)
        return place

    def environment(self, **more: str) -> dict[str, str]:
        env = environment(self.venv)
        for name in [name for name in env if name.startswith("ANSIBLE_")]:
            del env[name]
        # Ours as it was installed, and the others as setup has fetched them.
        env["ANSIBLE_COLLECTIONS_PATH"] = f"{self.installed}:{self.folder / 'fetched'}"
        env["HOME"] = str(self.folder / "home")
        env["NO_COLOR"] = "1"
        return {**env, **more}

    def run(self, name: str, *words: str, cwd: Path | None = None, **more: str) -> None:
        command = [str(self.venv / "bin" / name), *words]
        self.check(command, self.environment(**more), cwd or self.folder)


def lock(version: str) -> Path:
    name = "galaxy-py311.txt" if version == "3.11" else "galaxy-py312.txt"
    return ROOT / "requirements" / name


def problems_of(names: list[str]) -> list[str]:
    """What an archive's list of files has and should not have."""
    found = [f"{name}: not a part of the collection" for name in names if NEVER.search(name)]
    for name in names:
        parts = name.split("/")
        if parts[0] not in TOP or (
            parts[0] == "tests" and len(parts) > 1 and parts[1] not in TESTS
        ):
            found.append(f"{name}: not on the list of what is published (tools/galaxy.py)")
    return found


def build(work: Work) -> None:
    """The archive, what is in it, and an installation from it."""
    work.run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(work.folder))
    (work.archive,) = work.folder.glob("golive-webstack-*.tar.gz")
    with tarfile.open(work.archive) as archive:
        members = archive.getmembers()
    wrong = problems_of([member.name for member in members if not member.isdir()])
    wrong += [f"{member.name}: a link" for member in members if member.issym() or member.islnk()]
    if wrong:
        raise ToolError("the archive has\n" + "\n".join(wrong))
    work.say(f"{work.archive.name}: {len(members)} entries, {work.archive.stat().st_size} bytes")
    install = ["collection", "install", "--no-deps", "-p", str(work.installed), str(work.archive)]
    work.run("ansible-galaxy", *install)
    namespaces = work.folder / "fetched" / "ansible_collections"
    namespaces.mkdir(parents=True)
    for folder in TARGET.iterdir():
        if folder.name != "golive" and not folder.name.startswith("."):
            (namespaces / folder.name).symlink_to(folder)


def _ansible_test_home(folder: Path) -> None:
    cache = folder / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("get_pip_24_2.py", "get_pip_25_2.py"):
        (cache / name).write_text(GET_PIP)


def sanity(work: Work, slow: bool) -> None:
    """ansible-test in a copy of its own, as two at once share their folder for results."""
    place = (
        work.folder / ("slow" if slow else "rest") / "ansible_collections" / "golive" / "webstack"
    )
    shutil.copytree(work.collection, place)
    # Its virtual environments stay from run to run, by what is in them.
    home = CACHE / "ansible-test"
    _ansible_test_home(home)
    words = [word for name in SLOW for word in ("--test" if slow else "--skip-test", name)]
    command = ["sanity", "--python", work.version, "--color", "no", *words]
    work.run("ansible-test", *command, cwd=place, HOME=str(home))


def units(work: Work) -> None:
    place = work.copied("units")
    home = CACHE / "ansible-test-units"
    _ansible_test_home(home)
    command = ["units", "--python", work.version, "--venv", "--requirements", "--color", "no"]
    work.run("ansible-test", *command, *UNITS, cwd=place, HOME=str(home))


def importer(work: Work) -> None:
    """Galaxy's own checks; what it only warns of counts as well."""
    (work.folder / "importer.cfg").write_text(IMPORTER)
    work.run("python", "-m", "galaxy_importer.main", str(work.archive),
             GALAXY_IMPORTER_CONFIG=str(work.folder / "importer.cfg"))  # fmt: skip
    told = json.loads((work.folder / "importer_result.json").read_text())
    named = {(item["content_type"], item["name"]) for item in told["contents"]}
    missing = [
        f"{kind} {name}"
        for kind, names in documented_parts().items()
        for name in names
        if (kind, name) not in named
    ]
    if missing:
        raise ToolError("galaxy-importer did not find " + ", ".join(missing))
    work.run("antsibull-changelog", "lint", cwd=work.collection)


def documented_parts() -> dict[str, list[str]]:
    """Modules, roles and plugins by kind, as ansible-doc names the kinds."""
    found: dict[str, list[str]] = {
        "role": sorted(p.parts[-3] for p in ROOT.glob("roles/*/meta/argument_specs.yml"))
    }
    for kind in ("modules", "filter", "lookup", "callback"):
        paths = (ROOT / "plugins" / kind).glob("*.py")
        found[KINDS.get(kind, kind)] = sorted(p.stem for p in paths if p.stem != "__init__")
    return found


def ansible_doc(work: Work) -> None:
    """Each part has documentation that ansible-doc can show."""
    for kind, names in documented_parts().items():
        if names:
            full = [f"golive.webstack.{name}" for name in names]
            program = str(work.venv / "bin" / "ansible-doc")
            done = capture([program, "--json", "-t", kind, *full], env=work.environment())
            told = json.loads(done.stdout) if done.returncode == 0 else {}
            if set(told) != set(full):
                raise ToolError(f"ansible-doc -t {kind}: {done.stderr or sorted(told)}")
            work.say(f"ansible-doc -t {kind}: {len(told)}")


def _inventory(text_of: Mapping[str, str]) -> bytes:
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: 1\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = (f"{label} std:label -1 {page} -" for label, page in sorted(text_of.items()))
    return head.encode() + zlib.compress(("\n".join(lines) + "\n").encode())


def documentation(work: Work) -> None:
    """The site for the collection, without a warning."""
    work.run("antsibull-docs", "lint-collection-docs", "--plugin-docs", str(work.collection))
    site = work.folder / "site"
    site.mkdir(mode=0o700)
    common = ["--use-current", "--fail-on-error", "--squash-hierarchy"]
    work.run("antsibull-docs", "sphinx-init", *common, "--dest-dir", str(site), "golive.webstack")
    # Sphinx would fetch the labels of Ansible's own pages; here they are by name.
    labels = {f"{kind}_plugins": f"plugins/{kind}.html" for kind in ELSEWHERE}
    labels["common_return_values"] = "reference_appendices/common_return_values.html"
    labels["ansible_configuration_settings"] = "reference_appendices/config.html"
    modules = next(work.venv.glob("lib/python3.*/site-packages/ansible/modules"))
    for path in modules.glob("*.py"):
        label = f"ansible_collections.ansible.builtin.{path.stem}_module"
        labels[label] = f"collections/ansible/builtin/{path.stem}_module.html"
    (site / "ansible.inv").write_bytes(_inventory(labels))
    with (site / "conf.py").open("a") as stream:
        stream.write("\nintersphinx_mapping = {'ansible': ('https://docs.ansible.com/', ")
        stream.write(f"{str(site / 'ansible.inv')!r})}}\n")
    work.run("antsibull-docs", "--config-file", str(site / "antsibull-docs.cfg"), "collection",
             *common, "--cleanup", "everything", "--dest-dir", str(site / "rst"),
             "golive.webstack", cwd=site)  # fmt: skip
    work.run("sphinx-build", "-M", "html", "rst", "build", "-c", ".", "-W", "--keep-going",
             cwd=site)  # fmt: skip


def execution_environment(work: Work) -> None:
    """The build context of the image, and what it lists, installed and looked at."""
    context = work.folder / "context"
    definition = ROOT / "execution-environment.yml"
    work.run("ansible-builder", "create", "-f", str(definition), "-c", str(context),
             "--output-filename", "Containerfile", cwd=ROOT)  # fmt: skip
    told: dict[str, Any] = yaml.safe_load(definition.read_text())
    wanted = told["dependencies"]
    text = (context / "Containerfile").read_text()
    for name in ("ansible_core", "ansible_runner"):
        if wanted[name]["package_pip"] not in text:
            raise ToolError(f"the Containerfile lacks {wanted[name]['package_pip']}")
    for name in ("bindep.txt", "requirements.txt", "requirements.yml"):
        if not (context / "_build" / name).is_file():
            raise ToolError(f"the build context lacks _build/{name}")
    venv = work.folder / "environment"
    work.run("python", "-m", "venv", str(venv))
    listed = [wanted[name]["package_pip"] for name in ("ansible_core", "ansible_runner")]
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--no-input", "-q",
           "--disable-pip-version-check", "-r", str(ROOT / wanted["python"]), *listed]  # fmt: skip
    env = {**work.environment(), "VIRTUAL_ENV": str(venv)}
    env["PATH"] = f"{venv / 'bin'}:{env['PATH']}"
    work.check(pip, env)
    work.check([str(venv / "bin/python"), "-m", "pip", "check"], env)
    work.check([str(venv / "bin/python"), "-c", "import ansible_runner, cryptography, jinja2"], env)
    there = yaml.safe_load((ROOT / wanted["galaxy"]).read_text())["collections"]
    for item in there:
        place = work.folder / "fetched/ansible_collections" / item["name"].replace(".", "/")
        has = json.loads((place / "MANIFEST.json").read_text())["collection_info"]["version"]
        if has != str(item["version"]):
            raise ToolError(
                f"{item['name']} is {has} in requirements/, and {item['version']} there"
            )
    books = sorted(str(path) for path in (work.collection / "playbooks").glob("*.yml"))
    playbook = str(venv / "bin/ansible-playbook")
    work.check([playbook, "-i", "localhost,", "--syntax-check", *books], env)


def rest(work: Work) -> None:
    sanity(work, slow=False)
    importer(work)
    ansible_doc(work)
    execution_environment(work)


# Side by side once the archive is there, two at a time, the longest first.
PARTS: dict[str, Callable[[Work], None]] = {
    "sanity-slow": lambda work: sanity(work, slow=True),
    "rest": rest,
    "documentation": documentation,
    "units": units,
}
# With everything else beside them: the linters look at the same code.
SHORT = {name: PARTS[name] for name in ("rest", "documentation")}
