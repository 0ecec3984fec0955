# SPDX-License-Identifier: Apache-2.0
"""lodge-vmm with a guest of a few instructions: exit statuses, reports, console, signals, control socket."""
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from patience import PATIENCE_S, until
from vmm import Vmm, assemble, control

ENGINES = ["soft", "kvm"]


@pytest.fixture(scope="module")
def hello(tmp_path_factory) -> Path:
    return assemble("hello.S", tmp_path_factory.mktemp("guest") / "hello")


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    if request.param == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm is missing")
    return request.param


@pytest.fixture
def start(program, hello, engine):
    def run(mode: str, *arguments, **options) -> Vmm:
        return Vmm(program("lodge-vmm"), "--engine", engine, "--kernel", hello, "--cmdline", f"mode={mode}", "--memory", "32M",
                   "--quiet", *arguments, **options)

    return run


def test_debug_exit_port_gives_the_status(start):
    with start("exit", "--exit-port") as vmm:
        assert vmm.wait() == (5 << 1) | 1
        assert vmm.output == "hello from the guest\n"


def test_reset_ends_with_its_status_when_asked(start):
    with start("reset", "--on-reset", "exit") as vmm:
        assert vmm.wait() == 76


def test_reset_reboots_by_default(start):
    with start("reset") as vmm:
        until(lambda: vmm.read(1) and vmm.output.count("hello from the guest\n") >= 4)
        vmm.process.send_signal(signal.SIGTERM)
        assert vmm.wait() == 128 + signal.SIGTERM


def test_triple_fault_is_reported(start):
    with start("triple") as vmm:
        assert vmm.wait() == 72
        assert "vCPU 0: triple fault, at 0010:1000" in vmm.output
        assert "rip 0000000000" in vmm.output and "cr0 " in vmm.output


def test_input_reaches_the_guest(start):
    with start("echo", "--exit-port") as vmm:
        vmm.expect("hello from the guest\n")
        vmm.send("some input, q")
        assert vmm.wait() == 11
        assert vmm.output.endswith("some input, q")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["loop", "halt"])
def test_a_signal_ends_the_vm(start, mode, number):
    with start(mode) as vmm:
        vmm.expect("hello")
        vmm.process.send_signal(number)
        assert vmm.wait() == 128 + number


def test_two_vcpus_end_together(start):
    with start("exit", "--exit-port", "--cpus", "2") as vmm:
        assert vmm.wait() == 11


def test_a_reader_that_does_not_read_does_not_hold_the_monitor(program, hello, engine):
    read, write = os.pipe()
    process = subprocess.Popen([program("lodge-vmm"), "--engine", engine, "--kernel", hello, "--cmdline", "mode=flood", "--memory",
                                "32M", "--quiet"], stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.DEVNULL)
    until(lambda: not select.select([], [write], [], 0)[1])  # the pipe is full
    os.close(write)
    process.terminate()
    assert process.wait(PATIENCE_S) in (128 + signal.SIGTERM, -signal.SIGTERM)
    os.close(read)


def test_control_socket(start, tmp_path):
    path = tmp_path / "control"
    with start("loop", "--control", path, "--cpus", "2") as vmm:
        vmm.expect("hello")
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        status, paused, again, state, second, resumed, counters = control(
            path, {"id": 1, "command": "status"}, {"command": "pause"}, {"command": "status"}, {"command": "state", "cpu": 0},
            {"command": "state", "cpu": 1}, {"command": "resume"}, {"command": "counters"})
        assert status["id"] == 1 and status["ok"]
        assert status["result"]["state"] == "running" and status["result"]["cpus"] == 2
        assert status["result"]["memory_bytes"] == 32 << 20 and status["result"]["pid"] == vmm.process.pid
        assert paused["ok"] and again["result"]["state"] == "paused"
        assert 0x100000 <= int(state["result"]["registers"]["rip"], 16) < 0x101000
        assert state["result"]["activity"] == "running" and second["result"]["activity"] == "wait-for-sipi"
        assert resumed["ok"] and len(counters["result"]["cpus"]) == 2
        for wrong in ({"command": "state", "cpu": 2}, {"command": "state", "cpu": "x"}, {"command": "state", "cpu": -1},
                      {"command": "fly"}, {}):
            reply, = control(path, wrong)
            assert not reply["ok"] and reply["error"]
        stopped, = control(path, {"command": "stop"})
        assert stopped["ok"]
        assert vmm.wait() == 0
    assert not path.exists()


def test_kill_leaves_nothing_that_stands_in_the_way(start, tmp_path):
    path = tmp_path / "control"
    for _ in range(2):
        with start("loop", "--control", path) as vmm:
            vmm.expect("hello")
            children = subprocess.run(["pgrep", "-P", str(vmm.process.pid)], stdout=subprocess.PIPE, check=False).stdout
            assert children == b""
            vmm.process.kill()
            assert vmm.wait() == -signal.SIGKILL
    with start("exit", "--exit-port", "--control", path) as vmm:
        assert vmm.wait() == 11
    assert not path.exists()


def test_the_control_socket_of_a_living_vm_is_not_taken(start, tmp_path):
    path = tmp_path / "control"
    with start("loop", "--control", path) as vmm:
        vmm.expect("hello")
        with start("exit", "--control", path) as other:
            assert other.wait() == 2
            assert "another process listens" in other.output
        assert control(path, {"command": "status"})[0]["ok"]


def test_the_jail_is_in_place(start, build):
    if "asan" in build.name or "tsan" in build.name:
        pytest.skip("sanitizers run without the system call filter")
    with start("loop") as vmm:
        vmm.expect("hello")
        for task in Path(f"/proc/{vmm.process.pid}/task").iterdir():
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            assert status["Seccomp"] == "2", task
            assert status["NoNewPrivs"] == "1", task
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{vmm.process.pid}/status").read_text().splitlines() if ":\t" in line)
        assert int(status["CapEff"], 16) == 0


def test_config_file(program, hello, engine, tmp_path):
    config = tmp_path / "vm.json"
    config.write_text(f'{{"kernel": "{hello}", "cmdline": "mode=exit", "memory": "32M", "engine": "{engine}", "exit_port": true,'
                      ' "quiet": true}')
    with Vmm(program("lodge-vmm"), "--config", config) as vmm:
        assert vmm.wait() == 11
    with Vmm(program("lodge-vmm"), "--config", config, "--cmdline", "mode=triple") as vmm:
        assert vmm.wait() == 72


def test_auto_says_what_it_chose(program, hello):
    with Vmm(program("lodge-vmm"), "--kernel", hello, "--cmdline", "mode=exit", "--exit-port", "--memory", "32M") as vmm:
        assert vmm.wait() == 11
        assert "engine kvm" in vmm.output or "engine soft: " in vmm.output


def test_what_cannot_be_executed_is_reported(start):
    with start("nowhere") as vmm:
        assert vmm.wait() == 70
        assert "vCPU 0: " in vmm.output and "linear address c0000000, bytes" in vmm.output
        assert "rip 00000000c0000000" in vmm.output


def test_the_terminal_is_raw_and_given_back(program, hello, engine):
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    process = subprocess.Popen([program("lodge-vmm"), "--engine", engine, "--kernel", hello, "--cmdline", "mode=echo", "--memory", "32M",
                                "--quiet", "--exit-port"], stdin=follower, stdout=follower, stderr=subprocess.DEVNULL)
    seen = b""

    def expect(text: bytes):
        nonlocal seen
        end = time.monotonic() + PATIENCE_S
        while text not in seen and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                seen += os.read(leader, 4096)
        assert text in seen, seen

    expect(b"guest")
    while termios.tcgetattr(follower)[3] & termios.ICANON:
        time.sleep(0.01)
    os.write(leader, b"a\x03b\x01\x01c")  # Ctrl-C is the guest's; Ctrl-A twice is one
    expect(b"a\x03b\x01c")
    assert process.poll() is None
    os.write(leader, b"\x01x")
    assert process.wait(PATIENCE_S) == 0
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(program, hello, closed):
    done = subprocess.run(f"exec '{program('lodge-vmm')}' --engine soft --kernel '{hello}' --cmdline mode=exit --exit-port --quiet "
                          f"--memory 32M {closed}", shell=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 11


def test_output_to_a_full_disk_or_nobody_does_not_stop_the_guest(program, hello):
    command = [program("lodge-vmm"), "--engine", "soft", "--kernel", hello, "--cmdline", "mode=exit", "--exit-port", "--quiet",
               "--memory", "32M"]
    with open("/dev/full", "w", encoding="ascii") as full:
        assert subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, timeout=PATIENCE_S, check=False).returncode == 11
    read, write = os.pipe()
    os.close(read)
    assert subprocess.run(command, stdin=subprocess.DEVNULL, stdout=write, timeout=PATIENCE_S, check=False).returncode == 11
    os.close(write)


def test_input_from_a_file_is_not_lost(program, hello, tmp_path):
    data = os.urandom(200_000).replace(b"q", b"-") + b"q"
    path = tmp_path / "input"
    path.write_bytes(data)
    command = [program("lodge-vmm"), "--engine", "soft", "--kernel", hello, "--cmdline", "mode=echo", "--exit-port", "--quiet",
               "--memory", "32M"]
    with open(path, "rb") as source:
        done = subprocess.run(command, stdin=source, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 11
    assert done.stdout == b"hello from the guest\n" + data
