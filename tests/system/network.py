# SPDX-License-Identifier: Apache-2.0
"""Networks for system tests: a namespace of the test's own, peers in it, guests with a network device."""
import ctypes
import itertools
import os
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from vmm import Vmm, busybox_initrd, kernel

MODULES = ["drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_mmio.ko", "net/core/failover.ko",
           "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"]
CLONE_NEWNET = 0x40000000
numbers = itertools.count()


class Namespace:
    """A network namespace. `name` is unique to this process; everything in it ends with it."""

    def __init__(self):
        for command in ("ip", "nsenter"):
            if not shutil.which(command):
                pytest.skip(f"needs the command {command}")
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            pytest.skip("needs root and /dev/net/tun")
        self.name = f"lodge{os.getpid()}n{next(numbers)}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link", "set", "lo", "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def ip(self, *arguments):
        subprocess.run(["ip", "-n", self.name, *arguments], check=True)

    def tap(self, name: str, address: str | None = None):
        self.ip("tuntap", "add", name, "mode", "tap", "vnet_hdr")
        if address:
            self.ip("addr", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    def call(self, function):
        """function() on a thread that is inside; its sockets stay there."""
        result = []

        def run():
            fd = os.open(self.path, os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) == 0:
                result.append(function())
            os.close(fd)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert result, "could not enter the namespace"
        return result[0]

    def listen(self, address: str, port: int) -> socket.socket:
        return self.call(lambda: listen(address, port))


def free_port() -> int:
    """A port of 127.0.0.1, UDP and TCP, that nobody has; below those that the kernel gives to whoever asks for any, so that it stays free."""
    while True:
        port = random.SystemRandom().randrange(10240, 32768)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("", port))
            return port
        except OSError:
            pass


def listen(address: str, port: int = 0) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(8)
    server.settimeout(120)
    return server


def network_initrd(target: Path, guest: Path, name: str, script: str, extra=None) -> Path:
    """An initial RAM disk that loads the network's modules, then runs `script` in a shell on the console."""
    kernel(guest, name)
    files = dict(extra or {})
    load = ""
    for path in MODULES:
        found = sorted((guest / "kernels" / name / "lib/modules").glob(f"*/kernel/{path}"))
        if found:
            files[Path(path).name] = found[0].read_bytes()
            load += f"insmod /{Path(path).name}\n"
    return busybox_initrd(target, load + "ifconfig lo 127.0.0.1 up\n" + script, files)


def start_guest(program, guest: Path, initrd: Path, *arguments, name="cloud", namespace: Namespace | None = None, memory="256M") -> Vmm:
    inside = ["nsenter", f"--net={namespace.path}"] if namespace else []
    command = [*inside, program, "--engine", "soft", "--kernel", kernel(guest, name), "--initrd", initrd, "--memory", memory,
               "--quiet", "--cmdline", "console=ttyS0 quiet panic=-1", *arguments]
    return Vmm(*map(str, command))


def receive_all(connection: socket.socket) -> bytes:
    connection.settimeout(120)
    data = bytearray()
    while chunk := connection.recv(1 << 18):
        data += chunk
    return bytes(data)
