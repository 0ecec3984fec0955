# SPDX-License-Identifier: Apache-2.0
"""The lodge command without a guest: verbs, options, messages, listings, bad stores."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import ROOT
from lodge_run import Lodge, need_image


@pytest.fixture
def lodge(program, guest):
    return Lodge(program("lodge"), guest)


def test_no_verb_shows_the_verbs(lodge):
    done = lodge()
    assert done.returncode == 2
    for verb in (b"run", b"images", b"doctor", b"version", b"help"):
        assert verb in done.stdout


def test_help_of_every_verb(lodge):
    listed = [line.split()[0] for line in lodge("help").stdout.decode().splitlines() if line.startswith("  ")]
    assert "run" in listed
    for verb in listed:
        done = lodge("help", verb)
        assert done.returncode == 0 and done.stdout.startswith(f"usage: lodge {verb}".encode())
        assert lodge(verb, "--help").stdout == done.stdout
        assert (ROOT / "docs" / "man" / f"lodge-{verb}.1").exists(), verb
    for words in (("network", "create"), ("volume", "prune"), ("env", "update"), ("operation", "ls"), ("job", "submit"), ("job", "queue"),
                  ("job", "queue", "create"), ("image", "rm"), ("disk", "create"), ("vm", "create"), ("plan", "compare")):
        done = lodge(*words, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"usage: lodge {words[0]}".encode()), words


@pytest.mark.parametrize("args, words", [
    (["rnu"], ["no verb 'rnu'", "did you mean 'run'", "lodge help"]),
    (["frobnicate"], ["no verb 'frobnicate'", "lodge help"]),
    (["help", "nosuch"], ["no verb 'nosuch'"]),
    (["images", "-x"], ["unknown argument '-x'"]),
    (["run"], ["an IMAGE or ROOTFS-DIR is needed", "lodge help run"]),
    (["run", "--memroy", "1G", "busybox"], ["'--memroy'", "did you mean '--memory'"]),
    (["run", "-Z", "busybox"], ["unknown option '-Z'"]),
    (["run", "--memory"], ["'--memory' needs a value"]),
    (["run", "--memory", "lots", "busybox"], ["lots"]),
    (["run", "--cpus", "0", "busybox"], ["--cpus", "0"]),
    (["run", "--vm=yes", "busybox"], ["takes no value"]),
    (["run", "--engine", "soft", "busybox"], ["add --vm"]),
    (["run", "--vm", "--engine", "turbo", "busybox"], ["turbo", "auto, kvm or soft"]),
    (["run", "-v", "/tmp", "busybox"], ["SRC:DST"]),
    (["run", "-v", "/tmp:x", "busybox"], ["absolute path"]),
    (["run", "-v", "/tmp:/x:rx", "busybox"], ["neither ro nor rw"]),
    (["run", "-w", "tmp", "busybox"], ["absolute path"]),
    (["run", "-e", "=1", "busybox"], ["NAME=VALUE"]),
    (["run", "--name", "a/b", "busybox"], ["--name", "a/b"]),
])
def test_wrong_usage_says_what_is_right(lodge, args, words):
    done = lodge(*args)
    assert done.returncode in (2, 125) and done.stdout == b""
    for word in words:
        assert word in done.stderr.decode(), done.stderr


@pytest.mark.parametrize("args, wrong, usage", [
    (["vm", "create"], "an argument is missing", "vm create NAME"), (["vm", "ls", "x"], "too many arguments", "vm ls"),
    (["disk", "create", "data"], "an argument is missing", "disk create NAME SIZE"), (["disk", "ls", "x"], "too many arguments", "disk ls"),
    (["image", "tag", "x"], "an argument is missing", "image tag IMAGE"), (["image", "inspect", "x", "y"], "too many arguments", "image inspect IMAGE")])
def test_a_subverbs_usage_is_said_once(lodge, args, wrong, usage):
    done = lodge(*args)
    said, shown, see = done.stderr.decode().splitlines()
    assert done.returncode == 2 and done.stdout == b"" and said == f"lodge: {args[0]} {args[1]}: {wrong}"
    assert shown.startswith(f"usage: lodge {usage}") and see == f"See: lodge help {args[0]}"


def test_unknown_image_lists_what_there_is(lodge, guest):
    need_image(guest, "busybox")
    done = lodge("run", "bussybox", "true")
    assert done.returncode == 125
    assert b"no image 'bussybox'" in done.stderr and b"busybox" in done.stderr


def test_empty_store_says_how_to_fill_it(lodge, tmp_path):
    env = dict(lodge.env, LODGE_HOME=str(tmp_path))
    assert b"make_images.sh" in lodge("run", "busybox", "true", env=env).stderr
    assert b"make_images.sh" in lodge("images", env=env).stdout
    assert b"fetch_kernel.sh" in lodge("kernels", env=env).stdout
    done = lodge("doctor", env=env)
    assert done.returncode == 1 and b"fetch_kernel.sh" in done.stdout


def test_store_that_is_not_there(lodge, tmp_path):
    done = lodge("images", env=dict(lodge.env, LODGE_HOME=str(tmp_path / "none")))
    assert done.returncode == 125 and str(tmp_path / "none").encode() in done.stderr


def test_listings_agree(lodge, guest):
    need_image(guest, "busybox")
    images = json.loads(lodge("images", "--json").stdout)
    names = {image["name"] for image in images}
    assert "busybox" in names and all(image["digest"].startswith("sha256:") for image in images)
    table = lodge("images").stdout.decode()
    assert all(name in table for name in names)
    kernels = json.loads(lodge("kernels", "--json").stdout)
    assert all(os.path.exists(kernel["vmlinuz"]) for kernel in kernels)


def test_broken_image_is_told_apart_from_a_missing_one(lodge, tmp_path):
    broken = tmp_path / "images" / "half"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    done = lodge("run", "half", "true", env=dict(lodge.env, LODGE_HOME=str(tmp_path)))
    assert done.returncode == 125 and b"config.json:1" in done.stderr


def test_doctor_json_has_every_line_of_the_text(lodge):
    findings = json.loads(lodge("doctor", "--json").stdout)
    text = lodge("doctor").stdout.decode()
    assert {"kvm", "cgroups", "namespaces", "overlayfs", "io_uring", "guest kernels"} <= {f["subject"] for f in findings}
    for finding in findings:
        assert finding["level"] in ("ok", "limited", "missing")
        assert f"{finding['level']:<8} {finding['subject']}" in text
        # What is not well comes with what to do.
        assert finding["level"] == "ok" or finding["advice"]


def test_runtime_directory_that_cannot_be_made(lodge, guest):
    need_image(guest, "busybox")
    done = lodge("run", "busybox", "true", env=dict(lodge.env, LODGE_RUNTIME="/proc/lodge"))
    assert done.returncode == 125 and b"/proc/lodge" in done.stderr and b"LODGE_RUNTIME" in done.stderr


def test_initramfs_holds_init_and_its_modules_in_order(lodge, guest, tmp_path):
    if not (guest / "kernels" / "cloud" / "vmlinuz").exists():
        pytest.skip("needs the guest kernel cloud: tools/fetch_kernel.sh cloud")
    if not shutil.which("cpio"):
        pytest.skip("needs the command cpio")
    path = lodge("kernels", "--initramfs", "cloud").stdout.decode().strip()

    with open(path, "rb") as archive:
        subprocess.run(["cpio", "-id", "--quiet", "--no-absolute-filenames", "init", "modules/*"], stdin=archive, cwd=tmp_path, check=True)
    order = (tmp_path / "modules" / "list").read_text().split()
    assert os.access(tmp_path / "init", os.X_OK)
    assert sorted(order) == sorted(name for name in os.listdir(tmp_path / "modules") if name != "list")
    assert order.index("virtio_ring.ko") < order.index("virtio.ko") < order.index("virtio_mmio.ko")
    assert order.index("vsock.ko") < order.index("vmw_vsock_virtio_transport_common.ko") < order.index("vmw_vsock_virtio_transport.ko")
