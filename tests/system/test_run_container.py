# SPDX-License-Identifier: Apache-2.0
"""lodge run without --vm: what both isolations promise, and what only a container has."""
import os
import signal
from pathlib import Path

import pytest

from conftest import need_root
from lodge_run import LIMIT, Lodge, containers_of_test, need_image, read_until
from run_behaviour import Behaviour


lodge = pytest.fixture(containers_of_test)


class TestContainer(Behaviour):
    def test_killed_runtime_is_reported(self, lodge):
        status, errors = self.killed(lodge, "lodge-oci")
        assert status == 125 and "killed by signal 9" in errors
        lodge.assert_clean()

    def test_volumes(self, lodge, tmp_path):
        (tmp_path / "in").write_text("seen")
        done = lodge.run("-v", f"{tmp_path}:/a", "-v", f"{tmp_path}:/b:ro", "busybox", "sh", "-c",
                         "cat /a/in; echo made > /a/out; echo no > /b/in")
        assert done.stdout == b"seen" and done.returncode != 0 and b"Read-only" in done.stderr
        assert (tmp_path / "out").read_text() == "made\n" and (tmp_path / "in").read_text() == "seen"

    def test_volume_that_is_not_there(self, lodge):
        done = lodge.run("-v", "/no/such/place:/x", "busybox", "true")
        assert done.returncode == 125 and b"/no/such/place" in done.stderr

    def test_memory_limit_is_the_cgroups(self, lodge):
        done = lodge.run("--memory", "64M", "busybox", "sh", "-c",
                         "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null")
        assert str(64 << 20).encode() in done.stdout

    def test_over_the_memory_limit_is_killed(self, lodge):
        done = lodge.run("--memory", "16M", "busybox", "sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived")
        assert done.returncode != 0 and b"survived" not in done.stdout

    def test_isolated_from_the_host(self, lodge):
        done = lodge.run("busybox", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'; ip -o link | wc -l; "
                                                "mount -t tmpfs x /mnt 2>/dev/null && echo mounted; cat /proc/kcore | head -c1 | wc -c")
        lines = done.stdout.split()
        # 2: process 1 is the runtime's reaper, as it is lodge-init in a VM.
        assert lines[0] == b"2" and int(lines[1]) < 8 and int(lines[2]) <= 2 and b"mounted" not in lines and lines[-1] == b"0"

    def test_unhandled_signal_to_the_first_process_still_ends_it(self, lodge):
        """The kernel would drop it: the first process of a PID namespace has no default actions."""
        process = lodge.start("busybox", "sleep", "1000")
        while not any(comm == "sleep" for comm in lodge.descendants(process.pid).values()):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 128 + signal.SIGTERM

    def test_ignored_signal_stays_ignored(self, lodge):
        process = lodge.start("busybox", "sh", "-c", "trap '' INT; echo ready; read x < /dev/zero & sleep 1; echo alive")
        read_until(process.stdout, b"ready")
        process.send_signal(signal.SIGINT)
        read_until(process.stdout, b"alive")
        process.kill()
        process.wait()

    def test_mounts_of_the_host_stay_as_they_were(self, lodge):
        def ours():  # other tests mount as well
            return [line for line in Path("/proc/mounts").read_text().splitlines() if str(lodge.runtime) in line or str(lodge.guest) in line]

        before = ours()
        process = lodge.start("busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        assert ours() == before
        process.terminate()
        process.wait(LIMIT)

    def test_runtime_missing(self, lodge):
        done = lodge.run("busybox", "true", env=dict(lodge.env, LODGE_OCI="/no/such/oci"))
        assert done.returncode == 125 and b"/no/such/oci" in done.stderr

    def test_another_runtime(self, lodge):
        """The bundle is an OCI bundle: runc takes it as well."""
        from conftest import need_command
        runc = need_command("runc")
        done = lodge.run("busybox", "sh", "-c", "id -u; exit 4", env=dict(lodge.env, LODGE_OCI=runc))
        assert (done.returncode, done.stdout) == (4, b"0\n"), done.stderr


def test_needs_root(program, guest):
    need_root()
    need_image(guest, "busybox")
    lodge = Lodge(program("lodge"), guest)
    if not os.access("/", os.X_OK):
        pytest.skip("the tree cannot be reached by another user")
    done = lodge.run("busybox", "true", env=dict(lodge.env, LODGE_RUNTIME="/tmp/lodge-nobody"), user=65534, group=65534, extra_groups=[])
    assert done.returncode == 125 and b"root" in done.stderr
