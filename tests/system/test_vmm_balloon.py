# SPDX-License-Identifier: Apache-2.0
"""The memory balloon with the real driver: what the guest frees, and what it is told to give, the host has back."""
import os
import subprocess

import pytest

from lodge_run import need_image, need_kernel
from patience import until
from vmm import Vmm, control, kernel

MIB = 1 << 20


@pytest.fixture
def machine(program, guest, tmp_path):
    need_image(guest, "busybox")
    need_kernel(guest, "cloud")
    env = dict(os.environ, LODGE_HOME=str(guest))
    lodge = program("lodge")

    def path(*args):
        return subprocess.run([lodge, "kernels", *args], env=env, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()

    initrd, disk = path("--initramfs", "cloud", "--module", "virtio_balloon"), path("--disk", "busybox")
    with Vmm(program("lodge-vmm"), "--kernel", kernel(guest, "cloud"), "--initrd", initrd, "--disk", f"{disk},ro", "--memory", "512M", "--balloon",
             "--control", tmp_path / "control", "--cmdline", "console=ttyS0 quiet panic=-1 lodge.rw=80% cryptomgr.notests") as vmm:
        vmm.expect("# ")
        yield vmm, tmp_path / "control"


def pss(vmm):
    with open(f"/proc/{vmm.process.pid}/smaps_rollup", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("Pss_Shmem:"))) << 10


def balloon(path, **members):
    reply = control(path, {"command": "balloon", **members})[0]
    assert reply["ok"], reply
    return reply["result"]


def test_memory_goes_back_to_the_host(machine):
    vmm, path = machine
    vmm.send("dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null; echo filled=$?\n")
    vmm.expect("filled=0")
    full = pss(vmm)
    assert full > 200 * MIB
    # Free pages are reported by themselves.
    vmm.send("rm /big; echo removed=$?\n")
    vmm.expect("removed=0")
    until(lambda: pss(vmm) < full - 150 * MIB)
    assert balloon(path)["returned_bytes"] >= 150 * MIB
    # Inflated: the guest has less, and says so; nothing is lost when it deflates.
    vmm.send("md5sum /bin/busybox >/sum; echo summed=$?\n")
    vmm.expect("summed=0")
    balloon(path, target_bytes=160 * MIB)
    until(lambda: balloon(path)["guest_bytes"] <= 160 * MIB)
    until(lambda: balloon(path)["statistics"].get("available_bytes", 1 << 40) < 140 * MIB)
    until(lambda: pss(vmm) < 170 * MIB)
    balloon(path, target_bytes=512 * MIB)
    until(lambda: balloon(path)["guest_bytes"] == 512 * MIB)
    vmm.send("md5sum -c /sum && dd if=/dev/zero of=/again bs=1M count=150 2>/dev/null; echo used=$?\n")
    vmm.expect("used=0")


def test_wrong_targets_are_refused(machine):
    _, path = machine
    for value in (-1, 0, "1G", 1.5, 4096):
        reply = control(path, {"command": "balloon", "target_bytes": value})[0]
        assert not reply["ok"] and "target_bytes" in reply["error"]
