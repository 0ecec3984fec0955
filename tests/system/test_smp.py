# SPDX-License-Identifier: Apache-2.0
"""Two processors of the software CPU: they share work, wake one another, and cost nothing when there is nothing to do. Times are of the
host's processor, not of the clock: other things may run on this machine."""
import os
import time
from pathlib import Path

import pytest

from lodge_run import LIMIT, machines_of_test, read_until

TICKS = os.sysconf("SC_CLK_TCK")


lodge = pytest.fixture(machines_of_test("--engine", "soft", "--cpus", "2"))


class Monitor:
    """Processor time of a run's lodge-vmm: the whole, and of each vCPU's thread."""

    def __init__(self, lodge, process):
        names = lodge.processes() | lodge.descendants(process.pid)
        self.pid = next(pid for pid, name in names.items() if name == "lodge-vmm")

    @staticmethod
    def seconds(stat):
        fields = Path(stat).read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def whole(self):
        return self.seconds(f"/proc/{self.pid}/stat")

    def vcpus(self):
        times = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            if name.startswith("vcpu"):
                times[name] = self.seconds(task / "stat")
        return times


@pytest.mark.usefixtures("plain_build")
def test_an_idle_machine_is_idle(lodge):
    process = lodge.start("-q", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
    read_until(process.stdout, b"ready")
    monitor = Monitor(lodge, process)
    time.sleep(4)
    before = monitor.whole()
    time.sleep(20)
    used = monitor.whole() - before
    process.terminate()
    process.wait(LIMIT)
    print(f"idle: {used / 20:.2%} of a processor")
    assert used / 20 <= 0.01


LOOP = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); x=$(((x*1103515245+12345+i)%2147483648)); done; echo $x"


def test_work_is_shared(lodge):
    """The same loop once, then on both processors at once: together it costs twice the time of one, half of it on each."""
    process = lodge.start("-q", "-i", "busybox", "sh", "-c", f"{LOOP}; echo warm; read a; ({LOOP}); echo one; read a; ({LOOP}) & ({LOOP}); wait; "
                                                             "echo two; read a", stdin=-1)
    read_until(process.stdout, b"warm")
    monitor = Monitor(lodge, process)
    times = [monitor.vcpus()]
    results = []
    for word in (b"one", b"two"):
        process.stdin.write(b"\n")
        process.stdin.flush()
        results += read_until(process.stdout, word).split()[:-1]
        times.append(monitor.vcpus())
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.communicate(timeout=LIMIT)
    assert len(set(results)) == 1 and len(results) == 3
    one = sum(times[1].values()) - sum(times[0].values())
    both = [times[2][name] - times[1][name] for name in sorted(times[2])]
    print(f"one {one:.2f} s; two {both}")
    assert sum(both) <= 2 * one * 1.25 + 0.1, "two processors get in each other's way"
    assert min(both) >= 0.3 * sum(both), "one of them did it all"


def test_wake_ups_are_not_lost(lodge):
    """Words to and fro between processes on different processors, each of which sleeps until the other has spoken."""
    script = ("mkfifo /tmp/a /tmp/b; taskset 2 sh -c 'while read w; do echo $w; done </tmp/a >/tmp/b' & "
              "taskset 1 sh -c 'exec 3>/tmp/a 4</tmp/b; i=0; while [ $i -lt 500 ]; do echo $i >&3; read w <&4; [ $w = $i ] || exit 1; i=$((i+1)); "
              "done; echo all $i'; wait")
    started = time.monotonic()
    process = lodge.start("-q", "busybox", "sh", "-c", script)
    out, errors = process.communicate(timeout=LIMIT)
    assert out == b"all 500\n", errors
    # A lost wake-up would wait for the next timer tick, 4 ms, or for ever.
    assert time.monotonic() - started < LIMIT / 2


def test_processors_come_and_go(lodge):
    """Taken offline and brought back under load: INIT, SIPI, IPIs to all, TLB shootdowns."""
    script = ("mount -t sysfs s /sys 2>/dev/null; (while :; do ls -lR /bin >/dev/null; done) & load=$!; "
              "for i in 1 2 3 4 5; do echo 0 >/sys/devices/system/cpu/cpu1/online; echo 1 >/sys/devices/system/cpu/cpu1/online; done; "
              "kill $load; nproc; cat /sys/devices/system/cpu/online")
    done = lodge.run("-q", "busybox", "sh", "-c", script)
    assert done.stdout == b"2\n0-1\n", (done.stdout, done.stderr)
