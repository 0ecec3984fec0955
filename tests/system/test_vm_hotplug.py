# SPDX-License-Identifier: Apache-2.0
"""Disks and network interfaces that come to a running machine and go: a real kernel takes them, the host finds what it wrote."""
import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from patience import until
from test_vm import BASE, LIMIT_S, Console, initrd, killed, logged, manager, refused  # noqa: F401 (fixtures)
from vmm import kernel

PCI = tuple(f"drivers/virtio/virtio_pci{part}.ko" for part in ("_legacy_dev", "_modern_dev", ""))


@pytest.fixture(scope="module")
def running(manager, guest, home):  # noqa: F811
    """A machine that runs, with one disk since its start."""
    vmlinuz = kernel(guest, "cloud")
    tree = next((vmlinuz.parent / "lib" / "modules").iterdir()) / "kernel"
    net = [str(path.relative_to(tree)) for name in ("failover", "net_failover", "virtio_net") for path in tree.rglob(f"{name}.ko")]
    manager.lodge("disk", "create", "first", "1M")
    manager.lodge("vm", "create", "live", "--kernel", vmlinuz, "--initrd", initrd(home / "pci", vmlinuz, (*BASE, *PCI, *net, "drivers/virtio/virtio_balloon.ko")),
                  "--cmdline", "console=ttyS0 quiet", "--engine", "soft", "--memory", "128M", "--disk", "first")
    manager.lodge("vm", "start", "live")
    logged(manager, "live", "the guest is up")
    yield "live"
    manager.lodge("vm", "delete", "--force", "live")
    manager.lodge("disk", "rm", "first")


def attached(manager, name):  # noqa: F811
    return [disk["disk"] for disk in manager.inspect(name)["spec"]["hardware"].get("disks", [])]


def test_its_memory_is_shared_out(manager, running):  # noqa: F811
    """By its balloon: while the host is to keep more free than it has, a machine of parts gives what its guest does not
    need, and has it back."""
    path = manager.dir / "run" / "i" / manager.inspect(running)["id"] / "v" / "vm" / "control"

    def balloon():
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(path))
            control.sendall(b'{"command": "balloon"}\n')
            return json.loads(control.makefile().readline())["result"]

    until(lambda: balloon()["driver"], LIMIT_S)
    assert balloon()["guest_bytes"] == 128 << 20
    manager.lodge("env", "update", "default", "--keep-free", "0.99")
    until(lambda: balloon()["guest_bytes"] < 120 << 20, LIMIT_S)
    manager.lodge("env", "update", "default", "--keep-free", "0.01")
    until(lambda: balloon()["guest_bytes"] == 128 << 20, LIMIT_S)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk_comes_and_goes(manager, running, form):  # noqa: F811
    name = f"hot-{form}"
    path = f"{manager.environment['LODGE_HOME']}/vdisks/{name}.{form}"
    manager.lodge("disk", "create", "--format", form, name, "16M")
    with Console(manager, running) as console:
        console.begin()
        manager.lodge("disk", "attach", name, running)
        killed(manager)
        assert attached(manager, running) == ["first", name]
        console.run("cat /sys/block/vdb/serial; echo; mke2fs /dev/vdb >/dev/null && mount /dev/vdb /mnt && echo 'kept' >/mnt/file; umount /mnt; "
                    "echo written=$?", "written=0")
        assert name in console.output
        manager.lodge("disk", "detach", name, running)
        console.run("ls /dev/vdb; echo listed=$((0 + 1))", "listed=1")
        assert "No such file" in console.output
        console.leave()
    assert attached(manager, running) == ["first"]
    if form == "qcow2" and shutil.which("qemu-img"):
        subprocess.run(["qemu-img", "check", path], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["qemu-img", "convert", "-O", "raw", path, path + ".raw"], check=True)
    elif form == "qcow2":
        manager.lodge("disk", "convert", name, path + ".raw", "--to", "raw")
    else:
        os.link(path, path + ".raw")
    debugfs = shutil.which("debugfs") or "/sbin/debugfs"
    kept = subprocess.run([debugfs, "-R", "cat /file", path + ".raw"], capture_output=True, text=True, check=True)
    os.unlink(path + ".raw")
    assert kept.stdout == "kept\n", kept
    manager.lodge("disk", "rm", name)


def test_by_force_while_it_is_written(manager, running):  # noqa: F811
    manager.lodge("disk", "create", "busy", "16M")
    with Console(manager, running) as console:
        manager.lodge("disk", "attach", "busy", running)
        # dd may make a plain file of that name when the disk has just gone: that ends the loop, and is removed.
        console.run("(while [ -b /dev/vdb ] && dd if=/dev/zero of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null; do :; done; echo writer-ended=$((6 * 7))) & "
                    "echo begun=$((1 + 1))", "begun=2")
        manager.lodge("disk", "detach", "--force", "busy", running)
        console.expect("writer-ended=42", LIMIT_S)
        manager.lodge("disk", "rm", "busy")  # nobody has its lock any more
        console.run("until [ ! -b /dev/vdb ]; do usleep 50000; done; rm -f /dev/vdb; echo gone=$((2 + 2))", "gone=4")
        console.leave()
    assert attached(manager, running) == ["first"]


def test_a_network_interface_comes_and_goes(manager, running):  # noqa: F811
    with Console(manager, running) as console:
        manager.lodge("vm", "attach-net", running, "net7", "user,mac=02:00:5e:10:00:07")
        console.run("cat /sys/class/net/eth0/address; ip link set eth0 up; udhcpc -n -q -i eth0 -s /bin/true 2>&1; echo seen=$?", "seen=0")
        assert "02:00:5e:10:00:07" in console.output and "10.0.2.15" in console.output
        # A vector a queue: what came was announced by messages, not by a line.
        console.run("grep virtio /proc/interrupts; echo interrupts=$((2 + 5))", "interrupts=7")
        lines = re.findall(r"^ *\d+: +(\d+) .*(MSI\S*) .*virtio\d+-(config|input\.0|output\.0)", console.output, re.MULTILINE)
        assert {name for _, _, name in lines} == {"config", "input.0", "output.0"}, console.output
        assert all(int(count) > 0 for count, _, name in lines if name == "input.0"), lines
        manager.lodge("vm", "detach-net", running, "net7")
        console.run("ls /sys/class/net; echo left=$((3 + 3))", "left=6")
        assert "eth0" not in console.output.split("left=6")[0].split("\n", 1)[1]
        console.leave()
    assert manager.inspect(running)["spec"]["hardware"]["networks"] == []


def test_what_cannot_come_or_go(manager, running, tmp_path):  # noqa: F811
    assert "was there when the machine started" in refused(manager, "disk", "detach", "first", running)
    assert "no disk 'nosuch'" in refused(manager, "disk", "attach", "nosuch", running)
    broken = tmp_path / "broken.qcow2"
    broken.write_bytes(b"not an image" * 1000)
    assert "qcow2" in refused(manager, "disk", "attach", broken, running)
    assert "tap 'lo'" in refused(manager, "vm", "attach-net", running, "net9", "tap=lo")
    assert "no network 'nosuch'" in refused(manager, "vm", "attach-net", running, "net9", "network=nosuch")
    assert attached(manager, running) == ["first"]
    manager.lodge("pause", running)
    manager.lodge("disk", "create", "late", "1M")
    assert "is paused" in refused(manager, "disk", "attach", "late", running)
    manager.lodge("resume", running)
    manager.lodge("disk", "rm", "late")
    until(lambda: manager.inspect(running)["state"] == "running")
