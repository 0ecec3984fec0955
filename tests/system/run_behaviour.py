# SPDX-License-Identifier: Apache-2.0
"""What `lodge run` promises in both isolations. test_run_container.py and test_run_vm.py collect these with a `lodge` fixture each."""
import hashlib
import os
import pty
import signal
import struct
import subprocess
import termios
import time
import fcntl

import pytest

from lodge_run import LIMIT, SANITIZED, kill_group_member, read_until


class Behaviour:
    def test_streams_apart_and_status(self, lodge):
        done = lodge.run("-q", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42")
        assert (done.returncode, done.stdout, done.stderr) == (42, b"out\n", b"err\n")

    def test_environment_directory_user_hostname(self, lodge):
        done = lodge.run("-e", "A=x y", "-e", "PASSED", "-w", "/tmp", "-u", "daemon", "--hostname", "box", "busybox", "sh", "-c",
                         'echo "$A/$PASSED/$(pwd)/$(id -un)/$(hostname)"', env=dict(lodge.env, PASSED="on"))
        assert done.stdout == b"x y/on//tmp/daemon/box\n"

    @pytest.mark.parametrize("user, shown", [("65534", b"65534 65534"), ("nobody:tty", b"65534 5"), ("7:8", b"7 8")])
    def test_users_by_number_and_group(self, lodge, user, shown):
        assert lodge.run("-u", user, "busybox", "sh", "-c", "echo $(id -u) $(id -g)").stdout.strip() == shown

    @pytest.mark.parametrize("args, status, words", [
        (["busybox", "nosuchcommand"], 127, "nosuchcommand"),
        (["busybox", "/no/such/file"], 127, "/no/such/file"),
        (["busybox", "/etc/passwd"], 126, "/etc/passwd"),
        (["-u", "nosuchuser", "busybox", "true"], 126, "nosuchuser"),
        (["-u", "root:nosuchgroup", "busybox", "true"], 126, "nosuchgroup"),
    ])
    def test_what_cannot_be_started(self, lodge, args, status, words):
        done = lodge.run(*args)
        assert done.returncode == status and words in done.stderr.decode() and done.stdout == b""

    def test_standard_input_only_when_asked_for(self, lodge):
        assert lodge.run("busybox", "cat", input=b"not for it").stdout == b""
        assert lodge.run("-i", "busybox", "cat", input=b"for it").stdout == b"for it"

    def test_closed_standard_streams(self, lodge):
        """Nothing of ours may end up in the place of a stream that the caller closed."""
        done = subprocess.run(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", lodge.program, "run", *lodge.isolation, "-q", "-i", "busybox",
                               "sh", "-c", "cat; echo out; echo err >&2"], stdout=subprocess.PIPE, env=lodge.env, timeout=LIMIT)
        assert (done.returncode, done.stdout) == (0, b"out\n")

    def test_much_data_comes_through_whole(self, lodge):
        """1 GiB through cat; both ways at once, with neither pipe ever drained ahead of the other."""
        size = (64 if SANITIZED else 1024) << 20
        block = bytes(range(256)) * 4096
        process = subprocess.Popen([lodge.program, "run", *lodge.isolation, "-q", "-i", "busybox", "cat"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, env=lodge.env)
        expected, got = hashlib.sha256(), hashlib.sha256()
        feeder = os.fork()
        if feeder == 0:
            process.stdout.close()
            for number in range(size // len(block)):
                process.stdin.write(struct.pack("<Q", number) + block[8:])
            process.stdin.close()
            os._exit(0)
        process.stdin.close()
        for number in range(size // len(block)):
            expected.update(struct.pack("<Q", number) + block[8:])
        total = 0
        while data := process.stdout.read1(1 << 20):
            got.update(data)
            total += len(data)
        os.waitpid(feeder, 0)
        assert process.wait(LIMIT) == 0 and total == size and got.digest() == expected.digest()
        lodge.assert_clean()

    def test_a_full_stream_holds_up_no_other(self, lodge):
        """Standard output is full and nobody reads it; standard error, and a signal, still come through."""
        process = lodge.start("-q", "busybox", "sh", "-c",
                              "trap 'echo caught >&2; kill $!; exit 7' TERM; yes & sleep 1; echo ready >&2; wait")
        read_until(process.stderr, b"ready")
        process.terminate()
        read_until(process.stderr, b"caught")
        process.stdout.close()
        assert process.wait(LIMIT) == 7

    def test_reader_that_goes_away_ends_the_writer(self, lodge):
        process = lodge.start("-q", "busybox", "yes")
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(LIMIT) == 128 + signal.SIGPIPE

    def test_command_that_does_not_read_its_input(self, lodge):
        done = lodge.run("-q", "-i", "busybox", "true", input=b"x" * (8 << 20))
        assert done.returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
    def test_fatal_signals(self, lodge, number):
        process = lodge.start("-q", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        # The shell has become sleep when the kernel says so; a signal to the shell would do as well.
        process.send_signal(number)
        assert process.wait(LIMIT) == 128 + number

    def test_handled_signals(self, lodge):
        process = lodge.start("-q", "busybox", "sh", "-c", "trap 'echo usr1' USR1; trap 'exit 9' TERM; echo ready; "
                                                           "while :; do sleep 0.1; done")
        read_until(process.stdout, b"ready")
        process.send_signal(signal.SIGUSR1)
        read_until(process.stdout, b"usr1")
        process.terminate()
        assert process.wait(LIMIT) == 9

    def test_terminal(self, lodge):
        """A real terminal: size, its changes, Ctrl-C by the guest's own line discipline, settings restored."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        before = termios.tcgetattr(slave)
        process = subprocess.Popen([lodge.program, "run", *lodge.isolation, "-q", "-it", "busybox", "sh"], stdin=slave, stdout=slave,
                                   stderr=slave, env=lodge.env, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        try:
            os.write(master, b"tty; stty size; echo at-$((40+2))\r")
            got = read_until(master, b"at-42")
            assert b"/dev/" in got and b"33 99" in got
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
            os.kill(process.pid, signal.SIGWINCH)
            deadline = time.monotonic() + LIMIT
            while True:
                os.write(master, b"stty size; echo at-$((40+3))\r")
                if b"44 111" in read_until(master, b"at-43"):
                    break
                assert time.monotonic() < deadline
            os.write(master, b"sleep 1000\r")
            time.sleep(1)
            os.write(master, b"\x03")
            os.write(master, b"echo rc-$?; exit 5\r")
            read_until(master, b"rc-130")
            status = process.wait(LIMIT)
            assert status == 5
            assert termios.tcgetattr(slave) == before
        finally:
            process.kill()
            process.wait()
            os.close(master)
            os.close(slave)
        lodge.assert_clean()

    def test_terminal_is_restored_after_sigkill(self, lodge):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        process = subprocess.Popen([lodge.program, "run", *lodge.isolation, "-q", "-it", "busybox", "sh"], stdin=slave, stdout=slave,
                                   stderr=slave, env=lodge.env, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        try:
            os.write(master, b"echo up-$((40+2))\r")
            read_until(master, b"up-42")
            assert termios.tcgetattr(slave) != before
            # Another holder of the terminal, so that its settings outlive the session.
            process.kill()
            process.wait()
            lodge.assert_clean()
            assert termios.tcgetattr(slave) == before
        finally:
            os.close(master)
            os.close(slave)

    def test_terminal_needs_one(self, lodge):
        done = lodge.run("-it", "busybox", "true", input=b"")
        assert done.returncode == 125 and b"terminal" in done.stderr

    def test_rootfs_directory(self, lodge, tmp_path):
        """A directory of the user's, changed between two runs; what a run writes stays in its own layer."""
        root = tmp_path / "root, with: odd \\ letters"
        (root / "bin").mkdir(parents=True)
        busybox = (lodge.guest / "images/busybox/rootfs/bin/busybox").read_bytes()
        (root / "bin/busybox").write_bytes(busybox)
        (root / "bin/busybox").chmod(0o755)
        (root / "bin/sh").symlink_to("busybox")
        (root / "word").write_text("one\n")
        tmp_path.chmod(0o755)
        done = lodge.run("-q", str(root), "/bin/sh", "-c", "read w < /word; echo $w; echo more > /word; echo x > /new")
        assert (done.returncode, done.stdout) == (0, b"one\n"), done.stderr
        assert (root / "word").read_text() == "one\n" and not (root / "new").exists()
        (root / "word").write_text("two\n")
        assert lodge.run("-q", str(root), "/bin/sh", "-c", "read w < /word; echo $w").stdout == b"two\n"

    def test_rootfs_that_is_none(self, lodge, tmp_path):
        (tmp_path / "file").write_text("x")
        for name in ("none", "file"):
            done = lodge.run(str(tmp_path / name), "true")
            assert done.returncode == 125 and str(tmp_path / name).encode() in done.stderr

    def test_name_in_use(self, lodge):
        name = f"one-{os.getpid()}"  # of the cgroup, too, for the whole machine
        process = lodge.start("-q", "--name", name, "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        done = lodge.run("--name", name, "busybox", "true")
        assert done.returncode == 125 and f"'{name}' is in use".encode() in done.stderr
        process.terminate()
        process.wait(LIMIT)

    def killed(self, lodge, name):
        """SIGKILL to one of our processes while a command runs; returns lodge's exit status and its words."""
        process = lodge.start("-q", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        lodge.note_ids()
        if name == "lodge":
            process.kill()
        else:
            kill_group_member(lodge.processes() | lodge.descendants(process.pid), name)
            if name == "lodge-keeper":
                process.terminate()
        _, errors = process.communicate(timeout=LIMIT)
        return process.returncode, errors.decode()

    def test_killed_lodge_leaves_nothing(self, lodge):
        assert self.killed(lodge, "lodge")[0] == -signal.SIGKILL
        lodge.assert_clean()

    def test_killed_keeper_leaves_nothing(self, lodge):
        assert self.killed(lodge, "lodge-keeper")[0] == 128 + signal.SIGTERM
        lodge.assert_clean()

    def test_both_killed_are_swept_by_the_next_run(self, lodge):
        process = lodge.start("-q", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        read_until(process.stdout, b"ready")
        lodge.note_ids()
        kill_group_member(lodge.processes(), "lodge-keeper")
        process.kill()
        process.wait()
        assert list(lodge.runtime.iterdir())
        assert lodge.run("-q", "busybox", "true").returncode == 0
        lodge.assert_clean()
