# SPDX-License-Identifier: Apache-2.0
"""Machines put together part by part: lodge vm and lodge disk attach, the manager killed between any two steps; what cannot be is said."""
import json
import os
import shutil
import subprocess

import pytest

from manager import Manager
from patience import until
from vmm import Vmm, busybox_initrd, kernel

LIMIT_S = 120
BASE = ("drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_mmio.ko", "drivers/block/virtio_blk.ko")
SHELL = "for m in {modules}; do insmod /$m; done\necho 'the guest is up'\nexec setsid cttyhack sh\n"


def initrd(target, vmlinuz, modules):
    """A shell on the serial port, with these modules of the kernel."""
    tree = next((vmlinuz.parent / "lib" / "modules").iterdir()) / "kernel"
    names = {os.path.basename(module): (tree / module).read_bytes() for module in modules}
    return busybox_initrd(target, SHELL.format(modules=" ".join(names)), names)


@pytest.fixture(scope="module")
def manager(build, home):
    m = Manager(build, home).start()
    yield m
    m.close()


@pytest.fixture(scope="module")
def boot(guest, home):
    """Options of a machine that boots a kernel to a shell."""
    vmlinuz = kernel(guest, "cloud")
    return ("--kernel", vmlinuz, "--initrd", initrd(home / "initrd", vmlinuz, BASE), "--cmdline", "console=ttyS0 quiet", "--engine", "soft",
            "--memory", "128M")


class Console(Vmm):
    """lodge vm console NAME, left by its key."""

    def __init__(self, manager, name):
        super().__init__(manager.bin / "lodge", "vm", "console", name, env=manager.environment)

    def run(self, command, shown):
        self.output = ""
        self.send(command + "\n")
        self.expect(shown, LIMIT_S)

    def begin(self):
        """Until it is connected: a shell answers."""
        self.run("echo begun=$((40 + 2))", "begun=42")

    def leave(self):
        self.send("\x1d")
        assert self.wait() == 0


def logged(manager, name, text):
    until(lambda: text in manager.lodge("logs", name), LIMIT_S)


def killed(manager):
    manager.kill()
    manager.start()


def refused(manager, *arguments, status=125):
    done = subprocess.run([manager.bin / "lodge", *map(str, arguments)], env=manager.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done
    return done.stderr


def test_a_kernel_by_its_name(manager, guest):
    manager.lodge("vm", "create", "named", "--kernel", "cloud", "--boot", "kernel")
    said = json.loads(manager.lodge("vm", "inspect", "named"))
    assert os.path.samefile(said["spec"]["hardware"]["kernel"], kernel(guest, "cloud"))
    assert "no guest kernel 'nosuch'" in refused(manager, "vm", "update", "named", "--kernel", "nosuch")
    assert "--since 'bogus' is neither" in refused(manager, "logs", "--since", "bogus", "named")
    manager.lodge("vm", "delete", "named")


def test_step_by_step_the_manager_killed_between(manager, boot):
    steps = [("vm", "create", "steps", *boot), ("disk", "create", "data", "16M"), ("disk", "create", "--format", "qcow2", "more", "16M"),
             ("disk", "attach", "data", "steps"), ("disk", "attach", "more", "steps"), ("vm", "update", "steps", "--boot", "kernel"),
             ("vm", "start", "steps")]
    for step in steps:
        manager.lodge(*step)
        killed(manager)
    logged(manager, "steps", "the guest is up")
    assert {disk["name"]: disk["attached_to"] for disk in json.loads(manager.lodge("disk", "ls", "--json"))} == {"data": ["steps"], "more": ["steps"]}
    assert "attached to 'steps': `lodge vm stop steps`" in refused(manager, "disk", "resize", "data", "32M")
    pid = manager.inspect("steps")["pid"]
    with Console(manager, "steps") as console:
        console.run("for d in vda vdb; do echo kept-$d | dd of=/dev/$d conv=fsync 2>/dev/null; done; echo 'done'=$?", "done=0")
        console.leave()
    killed(manager)
    # Its pid comes with its shim, which the new manager is still taking up.
    until(lambda: manager.inspect("steps")["pid"] == pid)
    assert manager.inspect("steps")["state"] == "running"
    manager.lodge("vm", "stop", "--force", "steps")
    manager.lodge("vm", "start", "steps")
    with Console(manager, "steps") as console:
        console.run("head -n 1 /dev/vda /dev/vdb", "kept-vdb")
        assert "kept-vda" in console.output
        console.send("poweroff -f\n")
        assert console.wait(LIMIT_S) == 0
    until(lambda: manager.inspect("steps")["state"] == "exited")
    listed = json.loads(manager.lodge("vm", "ls", "--json"))
    assert [(vm["name"], len(vm["spec"]["hardware"]["disks"])) for vm in listed] == [("steps", 2)]
    assert "steps" in manager.lodge("vm", "ls") and json.loads(manager.lodge("vm", "inspect", "steps"))["exit_code"] == 0
    if shutil.which("qemu-img"):
        subprocess.run(["qemu-img", "check", manager.environment["LODGE_HOME"] + "/vdisks/more.qcow2"], check=True, stdout=subprocess.DEVNULL)
    manager.lodge("disk", "detach", "more", "steps")
    manager.lodge("disk", "rm", "more")
    manager.lodge("vm", "delete", "steps")
    assert [disk["name"] for disk in json.loads(manager.lodge("disk", "ls", "--json"))] == ["data"]
    manager.lodge("disk", "rm", "data")


def test_what_cannot_be_is_said(manager, boot, tmp_path):
    manager.lodge("vm", "create", "one", *boot)
    manager.lodge("vm", "create", "two", "--boot", "disk")
    manager.lodge("disk", "create", "mine", "1M")
    assert "no disk 'nosuch'" in refused(manager, "disk", "attach", "nosuch", "one")
    manager.lodge("disk", "attach", "mine", "one")
    assert "attached to 'one'" in refused(manager, "disk", "attach", "mine", "two")
    assert "attached to 'one' already" in refused(manager, "disk", "attach", "mine", "one")
    assert "attached to 'one'" in refused(manager, "disk", "rm", "mine")
    assert "not attached to 'two'" in refused(manager, "disk", "detach", "mine", "two")
    same = manager.environment["LODGE_HOME"] + "/vdisks/mine.raw"
    assert "attached to 'one'" in refused(manager, "disk", "attach", same, "two")
    manager.lodge("disk", "detach", "mine", "one")
    for name in ("one", "two"):
        manager.lodge("disk", "attach", "--read-only", "mine", name)
    manager.lodge("disk", "create", "other", "1M")
    manager.lodge("disk", "attach", "other", "two")
    said = refused(manager, "vm", "start", "two")
    assert "nothing to boot" in said and said.endswith("/boot/vmlinuz-*\n") and "mine.raw: no kernel" in said and "other.raw: no kernel" in said, said
    assert manager.inspect("two")["error"] in said
    for options in (("--cpus", "65"), ("--memory", "1K"), ("--boot", "floppy"), ("--boot", "disk,disk"), ("--disk", "nosuch"),
                    ("--kernel", tmp_path / "nosuch"), ("--net", "bridge"), ("--restart", "sometimes")):
        assert refused(manager, "vm", "create", "bad", *options).strip(), options
    for options, way in ((("--disk", "mine"), "lodge disk attach mine two"), (("--net", "user"), "lodge vm attach-net two"), (("--engine", "soft"), "keeps")):
        assert way in refused(manager, "vm", "update", "two", *options), options
    assert "did you mean 'start'" in refused(manager, "vm", "strat", status=2)
    status, answer = manager.ask("POST", "/v1/instances", {"isolation": "vm", "image": "busybox", "hardware": {}})
    assert status == 400 and "image" in answer["error"]["message"]
    status, answer = manager.ask("POST", "/v1/instances", {"hardware": {}})
    assert status == 400 and "isolation" in answer["error"]["message"]
    assert manager.ask("DELETE", "/v1/disks/nosuch")[0] == 404
    for name in ("one", "two"):
        manager.lodge("vm", "delete", name)
    manager.lodge("disk", "rm", "mine", "other")


def test_debian_ends_by_its_power_button_and_keeps_what_it_wrote(manager, guest, home):
    master = guest / "vdisks" / "debian-boot.raw"
    if not master.exists():
        pytest.skip("needs the disk debian-boot: tools/make_disk.sh")
    limit = 600 if os.environ.get("LODGE_SANITIZED") else 240
    disk = home / "vdisks" / "debian.raw"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", master, disk], check=True)
    manager.lodge("vm", "create", "deb", "--disk", "debian", "--boot", "cdrom,disk", "--engine", "soft", "--restart", "on-failure")
    manager.lodge("vm", "start", "deb")
    with Console(manager, "deb") as console:
        console.send("\n")
        console.expect("debian-boot login: ", limit)
        console.send("root\n")
        console.expect("Password: ", limit)
        console.send("lodge\n")
        console.expect("root@debian-boot:~#", limit)
        # No session manager is on this disk: its button is a device that a program reads.
        console.send("echo it-is-kept >/root/mark; findmnt -n -o SOURCE /; "
                     "(dd if=/dev/input/event0 bs=24 count=1 of=/dev/null; sync; poweroff -f) & sleep 2; echo listens=$((40 + 2))\n")
        console.expect("listens=42", limit)
        assert "/dev/vda1" in console.output
        done = subprocess.run([manager.bin / "lodge", "vm", "stop", "--time", str(limit), "deb"], env=manager.environment, timeout=limit + 60)
        assert done.returncode == 0 and console.wait(limit) == 0
    now = manager.inspect("deb")
    assert (now["state"], now["exit_code"], now["restarts"]) == ("exited", 0, 0)
    debugfs = shutil.which("debugfs") or "/sbin/debugfs"
    kept = subprocess.run([debugfs, "-R", "cat /root/mark", f"{disk}?offset={1 << 20}"], capture_output=True, text=True, check=True)
    assert kept.stdout == "it-is-kept\n", kept
    manager.lodge("vm", "delete", "deb")
    manager.lodge("disk", "rm", "debian")
