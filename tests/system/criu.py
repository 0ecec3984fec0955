# SPDX-License-Identifier: Apache-2.0
"""A CRIU that works on this kernel, for the tests of checkpoint and restore: the host's own where it passes its own check;
otherwise a newer one from the host's package mirror, unpacked in the build directory beside its own loader and libraries
and installed nowhere. Without either the tests are skipped with the reason."""
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NEWER = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def passes(program):
    """criu check, which needs root."""
    try:
        return subprocess.run([program, "check"], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def mirror():
    """Where the host's own packages come from."""
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(ORIGIN) $(CREATED_BY) $(SUITE)"],
                             text=True, capture_output=True)
    for line in targets.stdout.splitlines():
        uri, component, origin, kind, *_ = line.split(" ")
        if (component, origin, kind) == ("main", "Debian", "Packages") and "security" not in uri:
            return uri
    return None


def fetch(place):
    """criu and all it needs, unpacked below `place`; the wrapper script's path, or None."""
    uri = shutil.which("apt-get") and Path(KEYRING).exists() and mirror()
    if not uri:
        return None
    for directory in ("lists/partial", "cache/archives/partial", "root"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    (place / "status").touch()
    (place / "list.sources").write_text(
        f"Types: deb\nURIs: {uri}\nSuites: {NEWER}\nComponents: main\nSigned-By: {KEYRING}\n")
    options = [f"Dir::Etc::sourcelist={place}/list.sources", "Dir::Etc::sourceparts=-", f"Dir::State::lists={place}/lists",
               f"Dir::State::status={place}/status", f"Dir::Cache={place}/cache", "APT::Install-Recommends=false",
               "APT::Sandbox::User=root"]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    for verb in (["update"], ["--download-only", "--yes", "install", "criu"]):
        if subprocess.run([*apt, *verb], capture_output=True, timeout=300).returncode != 0:
            return None
    for package in (place / "cache" / "archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, place / "root"], check=True)
    root = place / "root" / "usr"
    wrapper = place / "criu"
    wrapper.write_text(f'#!/bin/sh\nexec {root}/lib64/ld-linux-x86-64.so.2 --library-path {root}/lib/x86_64-linux-gnu '
                       f'{root}/sbin/criu "$@"\n')
    wrapper.chmod(0o755)
    shutil.rmtree(place / "cache")
    shutil.rmtree(place / "lists")
    return wrapper


def need_criu(build):
    """Path of a CRIU that passes its check; skips without one."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    own = shutil.which("criu")
    if own and passes(own):
        return own
    place = build / "test-criu"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wrapper = place / "criu"
        if not wrapper.exists():
            try:
                fetch(place)
            except (OSError, subprocess.SubprocessError):
                pass
    if not wrapper.exists():
        pytest.skip("needs CRIU: the host's does not pass `criu check`, and no newer one can be fetched")
    if not passes(wrapper):
        pytest.skip("needs CRIU: no version passes `criu check` on this kernel")
    return str(wrapper)
