# SPDX-License-Identifier: Apache-2.0
"""lodge-vmm for system tests: small guests, initial RAM disks, a process to talk to, its control socket."""
import gzip
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from patience import PATIENCE_S

HERE = Path(__file__).resolve().parent


def assemble(source: str, target: Path) -> Path:
    """The multiboot guest tests/system/guests/<source>, as an ELF file."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("needs a C compiler to assemble a guest")
    subprocess.run([compiler, "-m32", "-nostdlib", "-static", "-Wl,-N,-Ttext=0x100000,--build-id=none,--no-warn-rwx-segments",
                    "-o", target, HERE / "guests" / source], check=True, stderr=subprocess.PIPE)
    return target


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An initial RAM disk in the kernel's newc format: path -> (mode, contents); device nodes give (major, minor)."""
    archive = bytearray()

    def entry(number: int, path: str, mode: int, data: bytes, rdev=(0, 0)):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name), 0]
        archive.extend(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
        archive.extend(b"\0" * (-len(archive) % 4))
        archive.extend(data)
        archive.extend(b"\0" * (-len(archive) % 4))

    for number, (path, (mode, contents)) in enumerate(files.items(), 1):
        if isinstance(contents, tuple):
            entry(number, path, mode, b"", contents)
        else:
            entry(number, path, mode, contents)
    entry(0, "TRAILER!!!", 0, b"")
    return bytes(archive)


def busybox_initrd(target: Path, script: str, extra: dict[str, bytes] | None = None) -> Path:
    """An initial RAM disk whose first process is busybox's shell running `script`."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("needs busybox-static")
    directory, program, device = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFCHR | 0o600
    files = {name: (directory, b"") for name in ("bin", "dev", "proc", "sys", "mnt")}
    files["dev/console"] = (device, (5, 1))
    files["bin/busybox"] = (program, busybox.read_bytes())
    prelude = ("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n"
               "mount -t devtmpfs dev /dev\n")
    files["init"] = (program, (prelude + script).encode())
    for name, data in (extra or {}).items():
        files[name] = (stat.S_IFREG | 0o644, data)
    target.write_bytes(gzip.compress(cpio(files), 1))
    return target


class Vmm:
    """One lodge-vmm process; output is collected as it comes."""

    def __init__(self, program: str, *arguments, **options):
        self.output = ""
        self.process = subprocess.Popen([program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, **options)
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def read(self, seconds: float) -> bool:
        """Waits for more output; False at its end or after the time."""
        ready, _, _ = select.select([self.process.stdout], [], [], max(seconds, 0))
        if not ready:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data.decode(errors="replace")
        return bool(data)

    def expect(self, text: str, seconds: float = PATIENCE_S) -> str:
        end = time.monotonic() + seconds
        while text not in self.output:
            if not self.read(end - time.monotonic()) and (time.monotonic() >= end or self.process.poll() is not None):
                pytest.fail(f"no {text!r} within {seconds} s; output ends with:\n{self.output[-3000:]}")
        return self.output

    def send(self, text: str):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait(self, seconds: float = PATIENCE_S) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            self.read(0.1)
        while self.read(0.1):
            pass
        if self.process.poll() is None:
            pytest.fail(f"does not end within {seconds} s; output ends with:\n{self.output[-3000:]}")
        return self.process.returncode


def dial(path) -> socket.socket:
    """A connection to the control socket, once it is there."""
    end = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def control(path, *requests: dict) -> list[dict]:
    """Replies of the control socket, in order."""
    with dial(path) as connection, connection.makefile("rw") as lines:
        replies = []
        for request in requests:
            lines.write(json.dumps(request) + "\n")
            lines.flush()
            replies.append(json.loads(lines.readline()))
        return replies


def kernel(guest: Path, name: str) -> Path:
    path = guest / "kernels" / name / "vmlinuz"
    if not path.exists():
        pytest.skip(f"needs the {name} kernel: tools/fetch_kernel.sh {name}")
    return path
