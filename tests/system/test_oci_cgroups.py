# SPDX-License-Identifier: Apache-2.0
"""Hosts with version 1 or version 2 alone: the same verbs in a mount namespace of their own whose /sys/fs/cgroup is so.
On a hybrid host version 2 has no controllers, so limits are not in reach here; processes, freezing, killing, device rules
and removal are."""
import json
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_command, need_root
from test_oci import rootfs  # noqa: F401 (a fixture)
from patience import until
from test_oci_verbs import Container

LAYOUTS = {
    "version 1": "umount /sys/fs/cgroup/unified",
    "version 2": "umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup",
}


class Elsewhere(Container):
    setup = None

    def command(self, *args, program=None):
        return ["unshare", "--mount", "sh", "-c", f'{self.setup}; exec "$@"', "sh", *super().command(*args, program=program)]


@pytest.fixture(params=LAYOUTS)
def container(request, program, rootfs, tmp_path):  # noqa: F811
    need_root()
    need_command("unshare")
    if not Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        pytest.skip("this host is not hybrid")
    made = Elsewhere(program("lodge-oci"), rootfs, tmp_path)
    made.setup = LAYOUTS[request.param]
    made.two = request.param == "version 2"
    yield made
    made.verb("delete", "--force", made.name)
    made.nothing_left()
    assert not Path("/sys/fs/cgroup/unified", made.name).exists()


def pid_of(container):
    return json.loads(container.verb("state", container.name))["pid"]


def test_life(container):
    container.start("sleep", "1000")
    lines = Path(f"/proc/{pid_of(container)}/cgroup").read_text().split()
    inside = {line.split(":")[0] for line in lines if line.split(":")[2] == f"/{container.name}"}
    mounted = {line.split(":")[0] for line in lines if Path("/sys/fs/cgroup", line.split(":")[1].removeprefix("name=")).is_mount()}
    assert inside == ({"0"} if container.two else mounted - {"0"}) and inside
    assert container.exec("cat", "/proc/self/cgroup") == container.exec("cat", "/proc/1/cgroup")
    container.detach(container.name, "sleep", "500")
    assert len(json.loads(container.verb("ps", "--format", "json", container.name))) == 2
    container.verb("kill", "--all", container.name, "KILL")
    until(lambda: container.status() == "stopped")
    container.verb("delete", container.name)
    container.nothing_left()


def test_pause_and_resume(container):
    container.start("sh", "-c", "while :; do echo x >>/n; sleep 0.02; done")
    count = container.rootfs / "n"
    try:
        until(lambda: count.exists() and count.stat().st_size > 4)
        container.verb("pause", container.name)
        assert container.status() == "paused"
        size = count.stat().st_size
        time.sleep(0.2)
        assert count.stat().st_size == size
        assert "paused" in container.exec("true", status=255)
        container.verb("resume", container.name)
        until(lambda: count.stat().st_size > size)
    finally:
        container.verb("delete", "--force", container.name)
        count.unlink(missing_ok=True)


def test_device_rules(container):
    """Version 2 has them as a program of ours."""
    done = container.run("sh", "-c", "echo x >/dev/null && echo fine; mknod /dev/k c 1 2; dd if=/dev/k bs=1 count=1", check=False)
    assert done.stdout == "fine\n" and "not permitted" in done.stderr


def test_the_container_sees_its_own_cgroup(container):
    text = container.run("sh", "-c", "cat /proc/self/cgroup; grep cgroup /proc/self/mountinfo").stdout
    assert (" - cgroup2 " in text) == container.two and f"/{container.name}" not in text.split(" - ")[0].split("\n")[0]


def test_limits_without_their_controller_are_refused(container):
    container.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    done = container.run("true", check=False)
    assert (done.returncode != 0 and "memory" in done.stderr) if container.two else done.returncode == 0


def test_killed_in_the_middle(container):
    """What a runtime that was killed leaves, delete --force takes away."""
    container.write("sleep", "1000")
    child = subprocess.Popen(container.command("run", "--bundle", str(container.bundle), container.name))
    until(lambda: (container.state / container.name / "state.json").exists())
    until(lambda: container.status() == "running")
    child.kill()
    child.wait()
    container.verb("delete", "--force", container.name)
    container.nothing_left()
