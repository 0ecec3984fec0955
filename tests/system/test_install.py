# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts where, and that the installed programs find their parts and nothing of the source tree."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, need_command, need_root
from lodge_run import LIMIT, need_image, need_kernel


@pytest.fixture(scope="module")
def prefix(build, tmp_path_factory):
    """An installation into a DESTDIR of its own; the prefix is the build's."""
    need_command("meson")
    destination = tmp_path_factory.mktemp("destination")
    subprocess.run(["meson", "install", "-C", str(build), "--no-rebuild", "--quiet", "--destdir", str(destination)], check=True, timeout=120,
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = list(destination.rglob("bin/lodge"))
    assert len(found) == 1
    return found[0].parent.parent


@pytest.fixture
def lodge(prefix, tmp_path):
    """The installed program, away from the tree and with an empty store."""
    def call(*args, **env):
        (tmp_path / "store").mkdir(exist_ok=True)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LODGE_HOME": str(tmp_path / "store"), **env}
        return subprocess.run([str(prefix / "bin" / "lodge"), *args], cwd="/", env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    return call


def test_everything_is_there(prefix):
    for path in ("bin/lodge", "bin/lodge-vmm", "bin/lodge-oci", "libexec/lodge/lodge-init", "libexec/lodge/fetch_kernel.sh",
                 "libexec/lodge/make_images.sh"):
        assert os.access(prefix / path, os.X_OK), path
    for source in (ROOT / "docs" / "man").glob("*.[1-8]"):
        assert (prefix / "share" / "man" / f"man{source.suffix[1:]}" / source.name).read_bytes() == source.read_bytes()
    for name in ("lodge", "lodge-vmm"):
        assert "_lodge" in (prefix / "share/bash-completion/completions" / name).read_text()
    assert (prefix / "share/zsh/site-functions/_lodge").read_text().startswith("#compdef lodge lodge-vmm")


def test_parts_are_found_beside_it(prefix, lodge):
    findings = {finding["subject"]: finding for finding in json.loads(lodge("doctor", "--json").stdout)}
    for name, place in (("lodge-oci", "bin"), ("lodge-vmm", "bin"), ("lodge-init", "libexec/lodge")):
        assert findings[name]["level"] == "ok"
        assert Path(findings[name]["detail"]).resolve() == (prefix / place / name).resolve()


def test_advice_names_installed_scripts(prefix, lodge):
    findings = {finding["subject"]: finding for finding in json.loads(lodge("doctor", "--json").stdout)}
    said = [findings["images"]["advice"], findings["guest kernels"]["advice"], lodge("images").stdout, lodge("kernels").stdout,
            lodge("run", "busybox", "true").stderr]
    for text in said:
        script = next(word for word in text.split() if word.endswith(".sh"))
        assert Path(script).is_relative_to(prefix) and os.access(script, os.X_OK)


def test_a_missing_part_is_named(prefix, lodge, tmp_path):
    """The program alone, somewhere else."""
    (tmp_path / "bin").mkdir()
    shutil.copy(prefix / "bin" / "lodge", tmp_path / "bin")
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    done = subprocess.run([str(tmp_path / "bin" / "lodge"), "run", str(rootfs), "true"], stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert done.returncode == 125 and "'lodge-oci' is missing" in done.stderr and str(tmp_path / "bin") in done.stderr


def test_installed_script_makes_an_image_that_runs(prefix, lodge, tmp_path):
    need_root()
    need_command("busybox")
    subprocess.run([str(prefix / "libexec/lodge/make_images.sh"), "busybox"], cwd="/", check=True, timeout=120, stdout=subprocess.PIPE,
                   env={"PATH": os.environ["PATH"], "LODGE_HOME": str(tmp_path / "store")})
    assert "busybox" in lodge("images").stdout
    done = lodge("run", "busybox", "echo", "installed")
    assert (done.returncode, done.stdout) == (0, "installed\n"), done.stderr


def test_installed_programs_start_a_vm(prefix, lodge, guest):
    need_root()
    need_image(guest, "busybox")
    need_kernel(guest, "cloud")
    done = lodge("run", "--vm", "busybox", "uname", "-m", LODGE_HOME=str(guest))
    assert (done.returncode, done.stdout) == (0, "x86_64\n"), done.stderr


def test_prefix_can_be_chosen(tmp_path):
    """The Makefile passes DESTDIR and PREFIX on."""
    text = subprocess.run(["make", "-n", "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/lodge"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          check=True, timeout=60).stdout
    assert "-Dprefix=/opt/lodge" in text and "meson install" in text
