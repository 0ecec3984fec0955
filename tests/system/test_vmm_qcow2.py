# SPDX-License-Identifier: Apache-2.0
"""A guest's disk as a qcow2 image, judged by qemu-img."""
import hashlib
import os
import subprocess

import pytest

from conftest import need_command
from network import network_initrd, start_guest
from patience import until

SCRIPT = "insmod /virtio_blk.ko\nexec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'\n"


@pytest.fixture(scope="module")
def initrd(tmp_path_factory, guest):
    need_command("qemu-img")
    found = sorted((guest / "kernels/cloud/lib/modules").glob("*/kernel/drivers/block/virtio_blk.ko"))
    extra = {"virtio_blk.ko": found[0].read_bytes()} if found else {}
    return network_initrd(tmp_path_factory.mktemp("qcow2") / "initrd", guest, "cloud", SCRIPT, extra)


def qemu_img(*arguments) -> int:
    return subprocess.run(["qemu-img", *map(str, arguments)], stdout=subprocess.DEVNULL, check=False).returncode


def test_a_guest_writes_a_qcow2_image(program, guest, initrd, tmp_path):
    image, raw, data = tmp_path / "image", tmp_path / "raw", os.urandom(5 << 20)
    raw.write_bytes(data + bytes(27 << 20))
    assert qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, image) == 0
    assert qemu_img("snapshot", "-c", "before", image) == 0
    with start_guest(program("lodge-vmm"), guest, initrd, "--disk", f"{image},format=qcow2,backing=raw:{raw}") as vm:
        vm.expect("/ #")
        vm.send("sha256sum /dev/vda; dd if=/dev/vda of=/dev/vda bs=1M count=5 seek=11 conv=notrunc 2>/dev/null;"
                " dd if=/dev/zero of=/dev/vda bs=4k seek=100 count=3 conv=notrunc 2>/dev/null; sync; sha256sum /dev/vda; echo do''ne\n")
        vm.expect("done\r\n", 60)
        assert hashlib.sha256(raw.read_bytes()).hexdigest() in vm.output
        vm.send("poweroff -f\n")
        assert vm.wait() == 0
    after = bytearray(raw.read_bytes())
    after[11 << 20:16 << 20] = data
    after[409600:409600 + 12288] = bytes(12288)
    assert hashlib.sha256(after).hexdigest() in vm.output
    assert qemu_img("check", "-q", "-f", "qcow2", image) == 0
    expected = tmp_path / "expected"
    expected.write_bytes(after)
    assert qemu_img("compare", "-q", "-f", "qcow2", "-F", "raw", image, expected) == 0


def test_a_killed_monitor_leaves_leaks_at_most(program, guest, initrd, tmp_path):
    image = tmp_path / "image"
    assert qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", image, "64M") == 0
    with start_guest(program("lodge-vmm"), guest, initrd, "--disk", f"{image},format=qcow2") as vm:
        vm.expect("/ #")
        vm.send("while :; do dd if=/dev/urandom of=/dev/vda bs=64k count=300 conv=notrunc 2>/dev/null; sync; done &\n")
        until(lambda: image.stat().st_size > 1 << 20)
        vm.process.kill()
        vm.wait()
    assert qemu_img("check", "-q", "-f", "qcow2", image) in (0, 3)


def test_nothing_is_guessed(program, guest, initrd, tmp_path):
    image, raw = tmp_path / "image", tmp_path / "raw"
    raw.write_bytes(bytes(1 << 20))
    assert qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, image) == 0
    for option, message in (("format=qcow2", "has a backing file: name it"), ("format=raw,backing=raw:x", "only qcow2 images"),
                            ("format=qcow2,backing=raw:/nonexistent", "/nonexistent")):
        with start_guest(program("lodge-vmm"), guest, initrd, "--disk", f"{image},{option}") as vm:
            assert vm.wait() == 2
            assert message in vm.output
    with start_guest(program("lodge-vmm"), guest, initrd, "--disk", f"{raw},format=qcow2") as vm:
        assert vm.wait() == 2
        assert "is no qcow2 image" in vm.output
