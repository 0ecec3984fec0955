# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's manager, from nothing: containers in user namespaces, a user-mode network with published ports, and what root alone can do
refused with the reason."""
import concurrent.futures
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from conftest import need_command, need_root
from lodge_run import SANITIZED, need_image
from network import free_port
from patience import until

ENTER = 'mount --bind "$0" /dev/net/tun && exec setpriv --reuid "$1" --regid "$2" --clear-groups "${@:3}"'


class User:
    """`nobody` with a home, programs of their own, and a /dev/net/tun as it is on most hosts: open to all."""

    def __init__(self, build, guest):
        self.entry = pwd.getpwnam("nobody")
        self.home = Path(tempfile.mkdtemp(prefix="lu", dir="/tmp"))
        self.bin = self.home / "bin"
        self.bin.mkdir()
        for name in ("lodge", "lodged", "lodge-shim", "lodge-oci"):
            shutil.copy(Path(build) / "bin" / name, self.bin / name)
        shutil.copytree(guest / "images" / "busybox" / "rootfs", self.home / "rootfs", symlinks=True)
        for path in [self.home, *self.home.rglob("*")]:
            os.chown(path, self.entry.pw_uid, self.entry.pw_gid, follow_symlinks=False)
        os.mknod(self.home / "tun", stat.S_IFCHR, os.makedev(10, 200))
        os.chmod(self.home / "tun", 0o666)
        self.environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XDG_RUNTIME_DIR": str(self.home)}
        self.environment |= {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}

    def call(self, *words):
        command = ["unshare", "-m", "bash", "-c", ENTER, self.home / "tun", self.entry.pw_uid, self.entry.pw_gid, self.bin / "lodge", *words]
        return subprocess.run([*map(str, command)], env=self.environment, capture_output=True, text=True, timeout=120, cwd="/")

    def lodge(self, *words):
        done = self.call(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def processes(self):
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.home) in os.readlink(entry / "exe"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def close(self):
        for line in self.call("ps", "-aq").stdout.split():
            self.call("rm", "-f", line)
        for pid in self.processes():
            if Path(f"/proc/{pid}/comm").read_text() == "lodged\n":
                os.kill(pid, 15)
        until(lambda: not self.processes())
        shutil.rmtree(self.home)


@pytest.fixture(scope="module")
def user(build, guest):
    need_root()
    need_image(guest, "busybox")
    need_command("setpriv")
    switch = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if not os.path.exists("/dev/net/tun") or (switch.exists() and switch.read_text().strip() == "0"):
        pytest.skip("needs /dev/net/tun and user namespaces for ordinary users")
    user = User(build, guest)
    user.lodge("image", "import", user.home / "rootfs", "box")
    yield user
    user.close()


def need_slirp():
    if subprocess.run(["sh", "-c", "ldconfig -p | grep -q libslirp.so.0"], check=False).returncode:
        pytest.skip("needs libslirp0")


def test_containers_of_an_ordinary_user(user):
    assert user.lodge("run", "box", "id", "-u") == "0\n"
    user.lodge("run", "-d", "--name", "a", "box", "sh", "-c", "mkdir /closed /closed/x; chmod 0 /closed; rm -r /etc; echo kept >/file; exec sleep 1000")
    until(lambda: "kept" in user.call("exec", "a", "cat", "/file").stdout)
    pid = json.loads(user.lodge("inspect", "a"))[0]["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == user.entry.pw_uid
    user.lodge("stop", "-t", "30", "a")
    assert "exited (143)" in user.lodge("ps", "-a")
    user.lodge("start", "a")
    assert user.lodge("exec", "a", "cat", "/file") == "kept\n"
    user.lodge("rm", "-f", "a")
    assert list((user.home / ".local/share/lodge/manager/instances").iterdir()) == []


def test_files_volumes_and_processes_without_rights(user):
    """What needs no root works: of a container that stands still, too."""
    user.lodge("volume", "create", "papers")
    assert (user.home / ".local/share/lodge/volumes/papers").is_dir()
    user.lodge("run", "-d", "--name", "b", "-v", "papers:/papers", "box", "sh", "-c", "echo kept >/file; echo more >/papers/file; exec sleep 1000")
    until(lambda: "kept" in user.call("exec", "b", "cat", "/file").stdout)
    assert "sleep 1000" in [process["command"] for process in json.loads(user.lodge("top", "--json", "b"))]
    for words in (("pause", "b"), ("update", "-m", "64M", "b"), ("network", "create", "town")):
        done = user.call(*words)
        assert done.returncode == 125 and "root" in done.stderr, done
    user.lodge("stop", "-t", "0", "b")
    user.lodge("cp", "b:/file", user.home / "back")
    assert (user.home / "back").read_text() == "kept\n"
    user.lodge("cp", user.home / "back", "b:/bin/again")
    assert user.call("cp", "b:/nosuch", user.home).returncode == 125
    user.lodge("start", "b")
    assert user.lodge("exec", "b", "cat", "/bin/again", "/papers/file") == "kept\nmore\n"
    user.lodge("rm", "-f", "b")
    user.lodge("volume", "rm", "papers")


def greet(server):
    while True:
        try:
            with server.accept()[0] as client:
                client.sendall(b"hello\n")
        except OSError:
            return


def serving(user):
    """Pids of those that carry frames for a user-mode network."""
    found = []
    for pid in user.processes():
        try:
            if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            pass
    return found


def test_a_network_without_rights(user):
    need_slirp()
    port = free_port()
    server = socket.create_server(("0.0.0.0", 0))
    threading.Thread(target=greet, args=(server,), daemon=True).start()
    address = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    user.lodge("run", "-d", "--name", "web", "--net", "user", "-p", f"127.0.0.1:{port}:80", "box", "sh", "-c",
               "mkdir /w; echo from outside >/w/index.html; exec httpd -f -p 80 -h /w")

    def fetch():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read() == b"from outside\n"
        except OSError:
            return False

    until(fetch)
    # Who carries the frames has nothing left of what it does not need.
    carrier, = serving(user)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{carrier}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0 and status["Seccomp"] == ("0" if SANITIZED else "2")
    assert "10.0.2.15/24" in user.lodge("exec", "web", "ip", "-4", "addr", "show", "eth0")
    # Out, to an address of this host; its 127.0.0.1 is out of reach.
    if address:
        assert user.lodge("exec", "web", "sh", "-c", f"nc -w 20 {address[0]} {server.getsockname()[1]} </dev/null") == "hello\n"
    assert user.call("exec", "web", "sh", "-c", f"nc -w 2 10.0.2.2 {server.getsockname()[1]} </dev/null").stdout == ""
    server.close()
    # A port that is taken is said at the start.
    done = user.call("run", "--net", "user", "-p", f"127.0.0.1:{port}:1", "box", "true")
    assert done.returncode != 0 and str(port) in done.stderr, done
    user.lodge("restart", "-t", "0", "web")
    until(fetch)
    user.lodge("rm", "-f", "web")
    with socket.socket() as s:
        until(lambda: s.connect_ex(("127.0.0.1", port)) != 0)


def test_an_end_is_told_when_the_ports_are_free(user):
    """Whoever carries the frames is slow to end: the next run waits for it, by the instance itself or by the port alone."""
    need_slirp()
    port = free_port()
    publish = ["--net", "user", "-p", f"127.0.0.1:{port}:80"]
    others = set(serving(user))
    user.lodge("run", "-d", "--name", "slow", *publish, "box", "sleep", "1000")
    carrier, = set(serving(user)) - others
    os.kill(carrier, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        again = pool.submit(user.call, "restart", "-t", "0", "slow")
        try:
            waits = concurrent.futures.wait([again], timeout=4).not_done
        finally:
            os.kill(carrier, signal.SIGCONT)
        done = again.result()
    assert waits, done
    assert done.returncode == 0, done.stderr
    assert len(set(serving(user)) - others - {carrier}) == 1 and carrier not in serving(user)
    user.lodge("rm", "-f", "slow")
    with socket.create_server(("127.0.0.1", port)) as holder:
        threading.Timer(0.5, holder.close).start()
        user.lodge("run", "--rm", *publish, "box", "true")


def test_what_needs_root_says_so(user):
    for words, said in ((["--net", "front"], "root"), (["-m", "64M"], "root"), (["--net", "user", "-p", "[::1]:80:80"], "IPv4")):
        done = user.call("run", *words, "box", "true")
        assert done.returncode != 0 and said in done.stderr, (words, done)
