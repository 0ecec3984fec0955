# SPDX-License-Identifier: Apache-2.0
"""Locks on disk images, ours and QEMU's: who writes is alone, who only reads shares, and each side sees the other."""
import subprocess

import pytest

from conftest import need_command
from vmm import Vmm, assemble, control


@pytest.fixture(scope="module")
def hello(tmp_path_factory):
    return assemble("hello.S", tmp_path_factory.mktemp("hello") / "hello")


def holder(program, hello, disk, folder):
    """A machine that stands with the disk open: its guest waits for input."""
    vm = Vmm(program("lodge-vmm"), "--engine", "soft", "--kernel", hello, "--cmdline", "mode=loop", "--disk", disk, "--control", folder / "control")
    assert control(folder / "control", {"command": "status"})[0]["ok"]
    return vm


def qemu_io(image, format, *commands, read_only=False):
    words = [word for command in commands for word in ("-c", command)]
    return subprocess.run([need_command("qemu-io"), *(["-r"] if read_only else []), "-f", format, *words, image], capture_output=True, text=True,
                          timeout=60)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_qemu_sees_what_we_hold(program, hello, tmp_path, format):
    image = tmp_path / f"disk.{format}"
    subprocess.run([need_command("qemu-img"), "create", "-q", "-f", format, image, "4M"], check=True)
    with holder(program, hello, f"{image},format={format}", tmp_path):
        for tried in (qemu_io(image, format, "write 0 4k"), qemu_io(image, format, "read 0 4k", read_only=True),
                      subprocess.run(["qemu-img", "convert", "-O", "raw", "-f", format, image, tmp_path / "copy"], capture_output=True, text=True)):
            assert tried.returncode and "lock" in tried.stderr, tried
        forced = subprocess.run(["qemu-img", "info", "-U", image], capture_output=True, text=True)
        assert forced.returncode == 0, forced
    with holder(program, hello, f"{image},ro,format={format}", tmp_path):
        subprocess.run(["qemu-img", "info", image], check=True, stdout=subprocess.DEVNULL)
        assert qemu_io(image, format, "read 0 4k", read_only=True).returncode == 0
        tried = qemu_io(image, format, "write 0 4k")
        assert tried.returncode and "lock" in tried.stderr, tried
    assert qemu_io(image, format, "write 0 4k").returncode == 0


def test_we_see_what_qemu_holds(program, hello, tmp_path):
    image = tmp_path / "disk.raw"
    subprocess.run([need_command("qemu-img"), "create", "-q", "-f", "raw", image, "4M"], check=True)
    for read_only, ours, refused in ((False, "", True), (False, ",ro", True), (True, "", True), (True, ",ro", False)):
        with subprocess.Popen([need_command("qemu-io"), *(["-r"] if read_only else []), "-f", "raw", image], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as other:
            other.stdin.write("read 0 512\n")
            other.stdin.flush()
            while "512 bytes" not in (line := other.stdout.readline()):
                assert line
            disk = f"{image}{ours}"
            if refused:
                with Vmm(program("lodge-vmm"), "--engine", "soft", "--kernel", hello, "--disk", disk) as vm:
                    assert vm.wait() == 2 and ("in use" in vm.output or "being written" in vm.output), vm.output
            else:
                with holder(program, hello, disk, tmp_path):
                    pass
            other.stdin.close()
