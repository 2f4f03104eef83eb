# SPDX-License-Identifier: GPL-3.0-or-later
"""Target images: Debian hosts with systemd, made by mmdebstrap.

`<suite>` is what a minimal server has; `<suite>-cached` adds the archives of the
packages in molecule/_shared/packages.txt, downloaded and not installed, and keeps the compiled
form of Ansible's modules (molecule/_shared/golive_compiled.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from tools.common import (
    CACHE,
    LABEL,
    ROOT,
    ToolError,
    apt_install,
    as_root,
    capture,
    exclusive,
    file_hash,
    note,
    run_logged,
    say,
    tail,
)
from tools.engine import Docker, proxy_options

REPOSITORY = "golive-webstack/target"
SUITES = {"debian12": "bookworm", "debian13": "trixie"}
SHARED = ROOT / "molecule" / "_shared"
PACKAGES = SHARED / "packages.txt"
MOUNTS = SHARED / "golive-container.service"
COMPILED = SHARED / "golive_compiled.py"

MINIMAL = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "libnss-systemd",
    "passwd",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# Units that only real hardware or a console needs; in a container they fail or wait.
MASKED = (
    "console-getty.service",
    "getty.target",
    "systemd-udevd.service",
    "systemd-networkd-wait-online.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
)
# The list serves several releases: only what this one has is asked for.
DOWNLOAD = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
for name in "$@"; do
    if apt-cache show "$name" >/dev/null 2>&1; then
        set -- "$@" "$name"
    else
        echo "not in this release: $name"
    fi
    shift
done
echo 'APT::Keep-Downloaded-Packages "true";' >/etc/apt/apt.conf.d/90keep-archives
apt-get -q install -y --download-only --no-install-recommends "$@"
library=/usr/lib/python3/dist-packages
install -d /var/cache/golive-compiled
echo 'import golive_compiled' >$library/golive_compiled.pth
cat >$library/golive_compiled.py <<'END'
{compiled}END
"""
# Debian's archives drop superseded packages, so old lists point at files that are gone.
MAX_AGE_DAYS = 10

# What systemd, Debian's unit files and the firewall tools need inside a container.
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "SYS_NICE", "NET_ADMIN")
RUN_OPTIONS = (
    *(f"--cap-add={name}" for name in CAPABILITIES),
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--stop-signal=SIGRTMIN+3",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
)


def tag(name: str) -> str:
    return f"{REPOSITORY}:{name}"


def cached_packages() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return sorted({line for line in lines if line})


def _download() -> str:
    return DOWNLOAD.replace("{compiled}", COMPILED.read_text())


def _recipe(name: str) -> str:
    suite, _, variant = name.partition("-")
    text = f"{SUITES[suite]} {MINIMAL} {MASKED} {os.environ.get('GOLIVE_DEBIAN_MIRROR', '')}"
    if variant:
        text += " ".join(cached_packages()) + _download()
    return file_hash(MOUNTS, extra=text)[:16]


def is_current(docker: Docker, name: str) -> bool:
    form = (
        f'{{{{index .Config.Labels "{LABEL}.recipe"}}}} {{{{index .Config.Labels "{LABEL}.made"}}}}'
    )
    words = (docker.try_run("image", "inspect", "-f", form, tag(name)) or "").split()
    if len(words) != 2 or words[0] != _recipe(name) or not words[1].isdigit():
        return False
    return time.time() - int(words[1]) < MAX_AGE_DAYS * 86400


def _labels(name: str) -> list[str]:
    changes = (
        'CMD ["/lib/systemd/systemd"]',
        "ENV container=docker",
        "ENV LANG=C.UTF-8",
        f"LABEL {LABEL}=image",
        f"LABEL {LABEL}.recipe={_recipe(name)}",
        f"LABEL {LABEL}.made={int(time.time())}",
    )
    return [word for change in changes for word in ("--change", change)]


def _make_plain(docker: Docker, name: str) -> None:
    if shutil.which("mmdebstrap") is None:
        apt_install(["mmdebstrap"], "Making a target image")
    log = CACHE / "logs" / f"image-{name}.log"
    (CACHE / "images").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "images") as folder:
        archive = Path(folder) / "root.tar"
        mirror = os.environ.get("GOLIVE_DEBIAN_MIRROR")
        command = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(MINIMAL)}",
            # With emptied lists a role's 'cache is valid for an hour' finds no package.
            "--skip=cleanup/apt/lists",
            *(
                f'--customize-hook=ln -sf /dev/null "$1/etc/systemd/system/{unit}"'
                for unit in MASKED
            ),
            '--customize-hook=echo LANG=C.UTF-8 >"$1/etc/default/locale"',
            f"--customize-hook=upload {MOUNTS} /etc/systemd/system/{MOUNTS.name}",
            f'--customize-hook=chroot "$1" systemctl enable {MOUNTS.name}',
            SUITES[name],
            str(archive),
            *([mirror] if mirror else []),
        ]
        if run_logged(as_root(command, "Making a target image"), log) != 0:
            raise ToolError(
                f"mmdebstrap could not make Debian {SUITES[name]}. Its last lines:\n"
                f"{tail(log, 10)}\nWithout a network route to Debian's archive set http_proxy, or"
                " GOLIVE_DEBIAN_MIRROR to the address of a mirror, then run this command again."
                f" Log: {log}"
            )
        with exclusive("image-names"):
            docker.run("import", *_labels(name), str(archive), tag(name), timeout=900)


def _make_cached(docker: Docker, name: str) -> None:
    base = name.partition("-")[0]
    ensure_image(docker, base)
    log = CACHE / "logs" / f"image-{name}.log"
    container = f"golive-image-{name}"
    docker.try_run("rm", "-f", container)
    command = [docker.client, "run", "--name", container, "--label", f"{LABEL}=image",
               *proxy_options(), tag(base), "sh", "-c", _download(), "sh",
               *cached_packages()]  # fmt: skip
    try:
        if run_logged(command, log) != 0:
            raise ToolError(
                f"the packages for {tag(name)} could not be downloaded. The last lines:\n"
                f"{tail(log, 10)}\nContainers need a network route to Debian's archive: set"
                f" http_proxy, or GOLIVE_DEBIAN_MIRROR to the address of a mirror. Log: {log}"
            )
        with exclusive("image-names"):
            docker.run("commit", *_labels(name), container, tag(name), timeout=900)
    finally:
        docker.try_run("rm", "-f", container)


def ensure_image(docker: Docker, name: str) -> str:
    """Make the image unless a current one is there; its tag."""
    suite, _, variant = name.partition("-")
    if suite not in SUITES or variant not in ("", "cached"):
        known = ", ".join(SUITES)
        raise ToolError(f"there is no target image '{name}'. Choose one of {known}.")
    if is_current(docker, name):
        return tag(name)
    with exclusive(f"image-{suite}{variant}"):
        if not is_current(docker, name):
            say(f"Making the target image {tag(name)} (about half a minute)")
            began = time.monotonic()
            if variant:
                _make_cached(docker, name)
            else:
                _make_plain(docker, name)
            # Its predecessor has lost its name; in use by a container it stays. Another image that
            # is made at the same time has no name for a moment, and must not go.
            with exclusive("image-names"):
                docker.try_run("image", "prune", "-f", "--filter", f"label={LABEL}=image")
            note(f"{tag(name)} is ready after {time.monotonic() - began:.0f} s")
    return tag(name)


def remove_images(docker: Docker, names: list[str]) -> list[str]:
    """Remove images that no container uses; the tags removed."""
    removed = []
    for name in names:
        if docker.label_of("image", tag(name)) != "image":
            continue
        if docker.run("ps", "-aq", "--filter", f"ancestor={tag(name)}"):
            continue
        if docker.try_run("rmi", tag(name)) is not None:
            removed.append(tag(name))
    return removed


def wait_for_systemd(docker: Docker, container: str, seconds: int = 90) -> str:
    """Wait until systemd has finished starting; 'running' or the failed units."""
    end = time.monotonic() + seconds
    state = ""
    while time.monotonic() < end:
        done = capture(
            [docker.client, "exec", container, "systemctl", "is-system-running"], timeout=20
        )
        state = done.stdout.strip()
        if state == "running":
            return ""
        if state == "degraded":
            failed = docker.try_run(
                "exec", container, "systemctl", "--failed", "--plain", "--no-legend"
            )
            return failed or "degraded"
        time.sleep(0.3)
    log = docker.try_run("logs", "--tail", "20", container) or ""
    raise ToolError(
        f"systemd in the container {container} is not up after {seconds} s (state:"
        f" {state or 'no answer'}). {log}\nThe engine must allow SYS_ADMIN and a writable"
        " /sys/fs/cgroup; 'docker logs' and 'docker inspect' of that container say more."
    )


def check_room(docker: Docker) -> None:
    """Disk and memory, before anything is made."""
    for place, what in ((docker.root(), "Docker's folder"), (ROOT, "this checkout")):
        probe = place
        while not probe.exists():
            probe = probe.parent
        try:
            free = shutil.disk_usage(probe).free / 2**30
        except PermissionError:
            continue
        if free < 3:
            raise ToolError(
                f"{what} ({place}) has {free:.1f} GiB free; 3 GiB are needed. Make room"
                " ('docker system df' shows what Docker holds) and run this command again."
            )
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    available = memory.get("MemAvailable", memory["MemFree"]) / 2**20
    if available < 1.5:
        raise ToolError(
            f"{available:.1f} GiB of memory are available; 1.5 GiB are needed. Stop other"
            " programs or containers and run this command again."
        )
