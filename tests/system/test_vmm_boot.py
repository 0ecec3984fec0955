# SPDX-License-Identifier: Apache-2.0
"""Unmodified Debian kernels on lodge-vmm, to a shell prompt and to a clean power-off."""
import hashlib
import os
import time

import pytest

from vmm import Vmm, busybox_initrd, control, kernel

SHELL = "echo first line of user space\nexec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'\n"


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    return busybox_initrd(tmp_path_factory.mktemp("boot") / "initrd", SHELL)


def boot(program, image, initrd, *arguments, cmdline="console=ttyS0 quiet", engine="soft"):
    return Vmm(program("lodge-vmm"), "--engine", engine, "--kernel", image, "--initrd", initrd, "--memory", "512M", "--quiet",
               "--cmdline", cmdline, *arguments)


@pytest.mark.parametrize("engine, cpus", [("soft", 1), ("soft", 2), ("soft,tier=interp", 2)])
@pytest.mark.parametrize("name", ["cloud", "generic", "rt"])
@pytest.mark.usefixtures("main_kernel")
def test_boots_to_a_shell_and_powers_off(program, guest, shell, name, engine, cpus):
    start = time.monotonic()
    with boot(program, kernel(guest, name), shell, "--cpus", cpus, engine=engine) as vmm:
        vmm.expect("first line of user space")
        print(f"{name}, {engine}, {cpus} vCPUs: first line after {time.monotonic() - start:.1f} s")
        vmm.send("echo answer-$((6*7)) on $(nproc) of $(uname -r)\n")
        vmm.expect(f"answer-42 on {cpus} of ")
        vmm.send("poweroff -f\n")
        assert vmm.wait() == 0
        for bad in ("unchecked MSR", "BUG:", "WARNING:", "Oops", "soft lockup"):
            assert bad not in vmm.output


def test_reboot_starts_the_kernel_again(program, guest, shell):
    with boot(program, kernel(guest, "cloud"), shell) as vmm:
        vmm.expect("first line of user space")
        vmm.output = ""
        vmm.send("reboot -f\n")
        vmm.expect("first line of user space")
        vmm.send("poweroff -f\n")
        assert vmm.wait() == 0


def test_reboot_ends_the_vm_when_asked(program, guest, shell):
    with boot(program, kernel(guest, "cloud"), shell, "--on-reset", "exit") as vmm:
        vmm.expect("first line of user space")
        vmm.send("reboot -f\n")
        assert vmm.wait() == 76


def test_a_kernel_without_init_panics_and_resets(program, guest, shell):
    with boot(program, kernel(guest, "cloud"), shell, "--on-reset", "exit",
              cmdline="console=ttyS0 quiet panic=-1 rdinit=/nothing root=/dev/none") as vmm:
        assert vmm.wait() == 76
        assert "Kernel panic" in vmm.output


def test_pause_holds_the_guest(program, guest, shell, tmp_path):
    path = tmp_path / "control"
    with boot(program, kernel(guest, "cloud"), shell, "--control", path, "--cpus", 2) as vmm:
        assert "--perf-map" in control(path, {"command": "perf-map"})[0]["error"]
        vmm.expect("first line of user space")
        assert control(path, {"command": "pause"})[0]["ok"]
        first = control(path, {"command": "counters"})[0]["result"]
        vmm.send("echo woken-$((1+1))\n")
        time.sleep(0.5)
        assert control(path, {"command": "counters"})[0]["result"] == first
        assert "woken-2" not in vmm.output
        assert control(path, {"command": "resume"})[0]["ok"]
        vmm.expect("woken-2")
        assert control(path, {"command": "counters"})[0]["result"]["cpus"][0]["instructions"] > first["cpus"][0]["instructions"]


def modules(guest, name):
    """The virtio modules of a kernel, for insmod in the order that they need."""
    wanted = ["virtio_ring.ko", "virtio.ko", "virtio_mmio.ko", "virtio_blk.ko", "virtio_console.ko"]
    found = {path.name: path for path in (guest / "kernels" / name / "lib").rglob("*.ko")}
    if "virtio_mmio.ko" not in found or "virtio_blk.ko" not in found:
        pytest.skip("needs the kernel's virtio modules")
    return {name: found[name].read_bytes() for name in wanted if name in found}


def test_disks_are_read_and_written(program, guest, tmp_path):
    extra = modules(guest, "cloud")
    load = "".join(f"insmod /{name}\n" for name in extra)
    script = load + ("echo size $(cat /sys/block/vda/size) $(cat /sys/block/vdb/ro) $(cat /sys/block/vda/serial)\n"
                     "dd if=/dev/vdb bs=64k 2>/dev/null | sha256sum\n"
                     "dd if=/dev/vdb of=/dev/vda bs=64k 2>/dev/null; sync\n"
                     "dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null || echo refused\n"
                     "echo done; poweroff -f\n")
    initrd = busybox_initrd(tmp_path / "initrd", script, extra)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3 << 20))
    target.write_bytes(bytes(4 << 20))
    with boot(program, kernel(guest, "cloud"), initrd, "--disk", target, "--disk", f"{source},ro") as vmm:
        vmm.expect("done")
        assert vmm.wait() == 0
    assert "size 8192 1 lodge-disk-0" in vmm.output
    assert hashlib.sha256(source.read_bytes()).hexdigest() in vmm.output
    assert "refused" in vmm.output
    assert target.read_bytes() == source.read_bytes() + bytes(1 << 20)


def test_virtio_console_carries_both_ways(program, guest, tmp_path):
    extra = modules(guest, "cloud")
    if "virtio_console.ko" not in extra:
        pytest.skip("needs the kernel's virtio_console module")
    script = "".join(f"insmod /{name}\n" for name in extra) + ("exec 3<>/dev/hvc0; echo hvc ready >&3; read line <&3\n"
                                                               "echo got $line. >&3; sleep 1; poweroff -f\n")
    initrd = busybox_initrd(tmp_path / "initrd", script, extra)
    with boot(program, kernel(guest, "cloud"), initrd, "--console", "virtio") as vmm:
        vmm.expect("hvc ready")
        vmm.send("word\n")
        vmm.expect("got word.")
        assert vmm.wait() == 0


def test_reboot_in_the_middle_of_disk_traffic(program, guest, tmp_path):
    extra = modules(guest, "cloud")
    script = "".join(f"insmod /{name}\n" for name in extra) + (
        "if [ \"$(head -c 6 /dev/vda)\" = marked ]; then echo second boot; poweroff -f; fi\n"
        "dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null &\n"
        "dd if=/dev/urandom of=/dev/vda bs=64k seek=1 count=200 oflag=direct 2>/dev/null &\n"
        "printf marked | dd of=/dev/vda bs=512 conv=sync oflag=direct 2>/dev/null; echo first boot; reboot -f\n")
    initrd = busybox_initrd(tmp_path / "initrd", script, extra)
    image = tmp_path / "disk"
    image.write_bytes(bytes(16 << 20))
    with boot(program, kernel(guest, "cloud"), initrd, "--disk", image, "--cpus", 2) as vmm:
        vmm.expect("first boot")
        vmm.expect("second boot")
        assert vmm.wait() == 0
