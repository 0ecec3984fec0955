# SPDX-License-Identifier: Apache-2.0
"""checkpoint and restore through CRIU: what a program had in memory, files, pipes and terminals is there afterwards."""
import json
import os
import re
import socket
import subprocess

import pytest

from conftest import need_command
from criu import need_criu
from test_oci import rootfs  # noqa: F401 (a fixture)
from patience import PATIENCE_S, until
from test_oci_verbs import Container, cgroup_paths

# Counts for ever: into memory, a tmpfs, a pipe between two processes and a bind mount.
COUNTER = """
i=0
while :; do i=$((i+1)); echo $i >/tmp/n; echo $i >/data/n; echo $i; sleep 0.05; done | while read n; do echo "$n"; done
"""


@pytest.fixture(scope="module")
def criu(build):
    return need_criu(build)


class Saved(Container):
    """A container whose streams are pipes and a null device, as engines have it."""

    criu = None
    readers = ()

    def command(self, *args, program=None):
        made = super().command(*args, program=program)
        made[1:1] = ["--criu", self.criu] if not program else []
        return made

    def follow(self, verb, *options):
        """Starts or restores, detached; returns the read end of its output."""
        read, write = os.pipe()
        # The container keeps its streams: none of them may be one whose end is waited for here.
        done = subprocess.run(self.command(verb, "--detach", "--bundle", str(self.bundle), *options, self.name),
                              stdin=subprocess.DEVNULL, stdout=write, stderr=write, timeout=60)
        os.close(write)
        stream = os.fdopen(read)
        assert done.returncode == 0, stream.read()
        return stream

    def save(self, *options, status=0):
        return self.verb("checkpoint", "--image-path", self.bundle / "image", *options, self.name, status=status)

    def restore(self, *options):
        return self.follow("restore", "--image-path", str(self.bundle / "image"), *options)


@pytest.fixture
def container(program, rootfs, tmp_path, criu):  # noqa: F811
    made = Saved(program("lodge-oci"), rootfs, tmp_path)
    made.criu = criu
    (made.bundle / "data").mkdir()
    made.config["mounts"] += [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
                              {"destination": "/data", "type": "bind", "source": str(made.bundle / "data"), "options": ["bind"]}]
    yield made
    made.verb("delete", "--force", made.name)
    made.nothing_left()


def numbers(stream, count):
    return [int(stream.readline()) for _ in range(count)]


def test_a_counter_goes_on_from_its_value(container):
    container.write("sh", "-c", COUNTER)
    before = container.follow("run")
    assert numbers(before, 5) == [1, 2, 3, 4, 5]
    container.save()
    seen = [int(line) for line in before.read().split()]
    last = seen[-1] if seen else 5
    assert not (container.state / container.name).exists()
    container.nothing_left()
    after = container.restore()
    first = numbers(after, 3)
    # A number may have been in the pipe between the two processes, never lost, never twice.
    assert first == [last + 1, last + 2, last + 3]
    assert container.status() == "running"
    assert int(container.exec("cat", "/tmp/n")) >= last
    until(lambda: int((container.bundle / "data" / "n").read_text() or 0) > last + 3)
    container.verb("kill", container.name, "KILL")
    until(lambda: container.status() == "stopped")


def mount_table(container):
    return sorted(re.sub(r"^\S+ \S+ \S+ (\S+ \S+ \S+).* - (\S+) .*", r"\1 \2", line)
                  for line in container.exec("cat", "/proc/self/mountinfo").splitlines())


def test_the_surroundings_are_as_before(container):
    """Mounts with their attributes (the read-only root too), namespaces of its own, cgroup, capabilities, limits."""
    container.config["root"]["readonly"] = True
    container.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    container.config["process"]["oomScoreAdj"] = 77
    container.write("sleep", "1000")
    container.follow("run")
    mounts = mount_table(container)
    facts = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/1/status; cat /proc/1/limits /proc/1/oom_score_adj; hostname"
    inside = container.exec("sh", "-c", facts)
    cgroups = cgroup_paths(container.exec("cat", "/proc/1/cgroup"))
    container.save()
    container.restore()
    assert mount_table(container) == mounts
    assert container.exec("sh", "-c", facts) == inside
    assert cgroup_paths(container.exec("cat", "/proc/1/cgroup")) == cgroups
    stats = json.loads(container.verb("events", "--stats", container.name))
    assert stats["data"]["memory"]["usage"]["limit"] == 64 << 20
    pid = json.loads(container.verb("state", container.name))["pid"]
    for kind in "pid net ipc uts mnt cgroup".split():
        assert os.stat(f"/proc/{pid}/ns/{kind}").st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino
    assert container.verb("ps", "--format", "json", container.name) == f"[{pid}]\n"


def test_it_may_run_on(container):
    container.write("sleep", "1000")
    container.follow("run")
    pid = json.loads(container.verb("state", container.name))["pid"]
    container.save("--leave-running")
    assert container.status() == "running" and json.loads(container.verb("state", container.name))["pid"] == pid
    container.verb("pause", container.name)
    container.save("--leave-running")
    assert container.status() == "paused"
    container.verb("resume", container.name)


def test_runcs_options_are_taken(container):
    container.write("sleep", "1000")
    container.follow("run")
    common = ["--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--manage-cgroups-mode", "ignore",
              "--work-path", str(container.bundle / "logs")]
    container.save(*common)
    assert (container.bundle / "logs" / "dump.log").exists()
    container.restore(*common, "--pid-file", str(container.bundle / "pid"), "--no-pivot", "--no-subreaper")
    assert (container.bundle / "pid").read_text() == str(json.loads(container.verb("state", container.name))["pid"])
    assert (container.bundle / "logs" / "restore.log").exists()


def test_refusals_say_why(container):
    assert "does not exist" in container.verb("checkpoint", "nosuch", status=1)
    container.write("sleep", "1000")
    container.follow("run")
    assert "--lazy-pages" in container.save("--lazy-pages", status=1)
    assert "freely" in container.save("--manage-cgroups-mode", "freely", status=1)
    assert "ADDRESS:PORT" in container.save("--page-server", "nowhere", status=1)
    assert "not network" in container.save("--empty-ns", "ipc", status=1)
    assert "nosuch" in subprocess.run([container.program, "--root", container.state, "--criu", "nosuch", "checkpoint", container.name],
                                      text=True, capture_output=True, cwd=container.bundle).stderr
    assert container.status() == "running"
    taken = container.verb("restore", "--bundle", container.bundle, "--image-path", container.bundle, container.name, status=1)
    assert "exists already" in taken
    container.verb("delete", "--force", container.name)
    missing = container.verb("restore", "--bundle", container.bundle, "--image-path", container.bundle / "no", container.name, status=1)
    assert "image path" in missing
    container.nothing_left()


def test_a_failed_restore_leaves_nothing(container):
    container.write("sleep", "1000")
    container.follow("run")
    container.save()
    (container.bundle / "image" / "inventory.img").write_bytes(b"no image")
    done = container.verb("restore", "--bundle", container.bundle, "--image-path", container.bundle / "image", container.name, status=1)
    assert "CRIU: " in done and "restore.log" in done
    container.nothing_left()


def test_a_created_container_cannot_be_saved(container):
    container.write("sleep", "1000")
    subprocess.run(container.command("create", "--bundle", str(container.bundle), container.name), check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert "created" in container.save(status=1)


def test_pre_dump_and_parent(container):
    container.write("sh", "-c", COUNTER)
    stream = container.follow("run")
    numbers(stream, 3)
    done = subprocess.run(container.command("checkpoint", "--pre-dump", "--image-path", str(container.bundle / "pre"), container.name),
                          text=True, capture_output=True)
    if "Tracking memory is not available" in done.stderr:
        assert done.returncode == 1 and container.status() == "running"
        pytest.skip("this kernel does not track changed memory")
    assert done.returncode == 0, done.stderr
    assert container.status() == "running"
    container.save("--parent-path", "../pre")
    numbers(container.restore(), 3)


def test_in_the_foreground_the_status_comes_through(container):
    container.write("sh", "-c", "while [ ! -e /data/end ]; do sleep 0.05; done; exit 9")
    container.follow("run")
    container.save()
    read, write = os.pipe()
    child = subprocess.Popen(container.command("restore", "--bundle", str(container.bundle), "--image-path",
                                               str(container.bundle / "image"), container.name),
                             stdin=subprocess.DEVNULL, stdout=write)
    os.close(write)
    until(lambda: container.verb("list", "--quiet") == f"{container.name}\n" and container.status() == "running")
    (container.bundle / "data" / "end").touch()
    assert child.wait(PATIENCE_S) == 9
    os.close(read)
    container.nothing_left()


def receive_master(path, act):
    """What engines do with --console-socket: the terminal's master comes over a unix socket."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    act()
    connection, _ = server.accept()
    _, fds, _, _ = socket.recv_fds(connection, 64, 1)
    return fds[0]


def test_a_terminal_comes_back(container, tmp_path):
    container.config["process"]["terminal"] = True
    container.write("sh", "-c", "while read line; do echo got $line; done")

    def start(*verb):
        subprocess.run(container.command(*verb, "--console-socket", "s", container.name), check=True, cwd=tmp_path, timeout=60)

    os.chdir(tmp_path)
    master = receive_master("s", lambda: start("run", "--detach", "--bundle", str(container.bundle)))
    os.write(master, b"one\n")
    text = b""
    while b"got one" not in text:
        text += os.read(master, 1000)
    container.save()
    os.close(master)
    os.unlink("s")
    master = receive_master("s", lambda: start("restore", "--detach", "--bundle", str(container.bundle), "--image-path",
                                               str(container.bundle / "image")))
    os.write(master, b"two\n")
    text = b""
    while b"got two" not in text:
        text += os.read(master, 1000)
    os.close(master)


def test_a_network_namespace_by_path_is_joined_again(container, tmp_path):
    need_command("ip")
    name = container.name
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for namespace in container.config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{name}"
        container.write("sleep", "1000")
        container.follow("run")
        container.save()
        container.restore()
        pid = json.loads(container.verb("state", name))["pid"]
        assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{name}").st_ino
        container.verb("delete", "--force", name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_hooks_run_on_restore(container, tmp_path):
    log = tmp_path / "hooks"
    container.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >>{log}; cat >/dev/null"]}]
                                 for kind in ("prestart", "createRuntime", "poststop")}
    container.write("sleep", "1000")
    container.follow("run")
    container.save()
    assert log.read_text().split() == ["prestart", "createRuntime", "poststop"]
    container.restore()
    container.verb("delete", "--force", container.name)
    assert log.read_text().split() == ["prestart", "createRuntime", "poststop"] * 2
