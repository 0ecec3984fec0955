# SPDX-License-Identifier: Apache-2.0
"""lodge run --vm: what both isolations promise, and what only a machine has."""
import os
import signal
import time
from pathlib import Path

import pytest

from conftest import need_command
from lodge_run import LIMIT, SANITIZED, Lodge, kill_group_member, machines_of_test, need_image, need_kernel, read_until
from run_behaviour import Behaviour

ROOT = Path(__file__).resolve().parent.parent.parent


lodge = pytest.fixture(machines_of_test())


class TestMachine(Behaviour):
    # A boot each: the container's tests go through more of the cases of these.
    @pytest.mark.parametrize("user, shown", [("nobody:tty", b"65534 5")])
    def test_users_by_number_and_group(self, lodge, user, shown):
        super().test_users_by_number_and_group(lodge, user, shown)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
    def test_fatal_signals(self, lodge, number):
        super().test_fatal_signals(lodge, number)

    def test_killed_monitor_is_reported_with_its_last_words(self, lodge):
        status, errors = self.killed(lodge, "lodge-vmm")
        assert status == 125 and "killed by signal 9" in errors
        lodge.assert_clean()

    def test_another_kernel_than_the_hosts_runs_it(self, lodge, guest):
        release = (guest / "kernels/cloud/release").read_text().strip()
        done = lodge.run("-q", "busybox", "uname", "-r")
        assert done.stdout.decode().strip() == release

    @pytest.mark.parametrize("kernel", ["generic", "rt"])
    def test_other_kernels(self, lodge, guest, kernel):
        need_kernel(guest, kernel)
        done = lodge.run("-q", "--kernel", kernel, "busybox", "sh", "-c", "uname -r; touch /written && echo yes")
        assert done.stdout.decode().split() == [(guest / "kernels" / kernel / "release").read_text().strip(), "yes"]

    def test_says_which_engine_it_chose_unless_quiet(self, lodge):
        done = lodge.run("busybox", "true")
        assert b"engine " in done.stderr
        assert lodge.run("-q", "busybox", "true").stderr == b""

    def test_memory_is_what_was_asked_for(self, lodge):
        done = lodge.run("-q", "--memory", "256M", "busybox", "grep", "MemTotal", "/proc/meminfo")
        assert 180 << 10 < int(done.stdout.split()[1]) < 256 << 10

    @pytest.mark.parametrize("memory, words", [("1M", "too small"), ("100T", "more than this host has")])
    def test_impossible_memory(self, lodge, memory, words):
        done = lodge.run("--memory", memory, "busybox", "true")
        assert done.returncode == 125 and words in done.stderr.decode()

    def test_kernel_missing(self, lodge):
        done = lodge.run("--kernel", "nosuch", "busybox", "true")
        assert done.returncode == 125 and b"nosuch" in done.stderr and b"fetch_kernel" in done.stderr

    @pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None])
    def test_kernel_garbage_or_truncated(self, lodge, guest, tmp_path, content):
        if content is None:
            content = (guest / "kernels/cloud/vmlinuz").read_bytes()[:100000]
        (tmp_path / "kernel").write_bytes(content)
        done = lodge.run("--kernel", str(tmp_path / "kernel"), "busybox", "true")
        assert done.returncode == 125 and str(tmp_path / "kernel").encode() in done.stderr

    def test_disk_full(self, lodge, guest, tmp_path):
        """The store's file system is full: the disk image cannot be made, and nothing of it stays."""
        if os.geteuid() != 0:
            pytest.skip("needs root")
        import subprocess
        store = tmp_path / "store"
        store.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", store], check=True)
        try:
            (store / "images").symlink_to(guest / "images")
            (store / "kernels").symlink_to(guest / "kernels")
            done = lodge.run("busybox", "true", env=dict(lodge.env, LODGE_HOME=str(store)))
            assert done.returncode == 125 and b"no room" in done.stderr and str(store).encode() in done.stderr
            assert list((store / "disks").iterdir()) == []
        finally:
            subprocess.run(["umount", store], check=True)

    def test_broken_off_while_it_boots(self, lodge):
        process = lodge.start("busybox", "true")
        while "lodge-vmm" not in lodge.descendants(process.pid).values():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 128 + signal.SIGINT

    def test_monitor_killed_while_it_boots(self, lodge):
        process = lodge.start("busybox", "true")
        while "lodge-vmm" not in lodge.descendants(process.pid).values():
            assert process.poll() is None
        kill_group_member(lodge.descendants(process.pid), "lodge-vmm")
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 125 and b"killed by signal 9" in errors

    def test_what_the_command_left_running_ends_with_it(self, lodge):
        done = lodge.run("-q", "busybox", "sh", "-c", "sleep 1000 & sleep 1000 > /dev/null & echo done")
        assert (done.returncode, done.stdout) == (0, b"done\n")

    def test_guest_that_powers_itself_off(self, lodge):
        done = lodge.run("-q", "busybox", "sh", "-c", "echo bye; poweroff -f")
        assert done.returncode == 125 and b"before the command did" in done.stderr

    def test_output_that_cannot_be_written(self, lodge):
        with open("/dev/full", "w") as full:
            done = lodge.run("-q", "busybox", "echo", "lost", stdout=full)
        assert done.returncode == 125 and b"No space left" in done.stderr

    def test_agent_that_goes_away(self, lodge):
        """The first process of the guest stopped for good: its connections end, the machine does not."""
        done = lodge.run("-q", "busybox", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000")
        assert done.returncode == 125 and b"before the command did" in done.stderr

    def test_memory_run_out_in_the_guest(self, lodge):
        """The guest's kernel kills the process that has no room, and the status says so."""
        done = lodge.run("-q", "--memory", "128M", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=80M", "count=1")
        assert done.returncode == 128 + 9

    def test_the_guest_goes_on_after_its_memory_ran_out(self, lodge):
        script = """dd if=/dev/zero of=/dev/null bs=45M count=60 & a=$!
                    dd if=/dev/zero of=/dev/null bs=45M count=60 & wait $!; b=$?
                    wait $a; echo $? $b"""
        done = lodge.run("-q", "--memory", "128M", "busybox", "sh", "-c", script)
        assert done.returncode == 0 and "137" in done.stdout.decode().split()

    def test_killed_while_the_disk_image_is_made(self, lodge, guest, tmp_path):
        """A killed first run leaves no half disk that a second one could take for a whole one."""
        store = tmp_path / "store"
        store.mkdir()
        (store / "images").symlink_to(guest / "images")
        (store / "kernels").symlink_to(guest / "kernels")
        env = dict(lodge.env, LODGE_HOME=str(store))
        need_image(guest, "debian")
        import subprocess
        process = subprocess.Popen([lodge.program, "kernels", "--disk", "debian"], env=env, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT
        while not list(store.glob("disks/*.tmp")) and process.poll() is None:
            assert time.monotonic() < deadline
        process.kill()
        process.wait()
        time.sleep(0.5)
        done = lodge("kernels", "--disk", "debian", env=env)
        assert done.returncode == 0 and list(store.glob("disks/*.tmp")) == []
        if os.path.exists("/usr/sbin/e2fsck"):
            assert subprocess.run(["/usr/sbin/e2fsck", "-fn", done.stdout.decode().strip()], capture_output=True).returncode == 0


class TestBesideQemu:
    """The same program, agent and image under a monitor that is not ours: what differs would be the monitor's."""

    @pytest.fixture
    def lodge(self, program, guest):
        need_command("qemu-system-x86_64")
        need_image(guest, "busybox")
        need_kernel(guest, "cloud")
        lodge = Lodge(program("lodge"), guest, ["--vm"])
        lodge.env["LODGE_VMM"] = str(ROOT / "tests/system/qemu_vmm.py")
        yield lodge
        lodge.assert_clean()

    def test_streams_apart_and_status(self, lodge):
        done = lodge.run("-q", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 42", input=b"in")
        assert (done.returncode, done.stdout, done.stderr) == (42, b"in", b"err\n")

    def test_fatal_signal(self, lodge):
        process = lodge.start("-q", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        process.terminate()
        assert process.wait(LIMIT) == 128 + signal.SIGTERM


def test_one_run_under_the_sanitizers(lodge):
    if not SANITIZED:
        pytest.skip("for the sanitizer build; the others cover it otherwise")
    done = lodge.run("-q", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 42", input=b"in")
    assert (done.returncode, done.stdout, done.stderr) == (42, b"in", b"err\n")
