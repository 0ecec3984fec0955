# SPDX-License-Identifier: Apache-2.0
"""Nothing left behind: every verb is killed at its Nth system call, in the runtime itself and in the container's first
process, or that call fails; `delete --force` then removes all there is. LODGE_KILL_STEP=1 tries every call; the default is a sample, the
same in every run, that LODGE_SAMPLE=NUMBER moves."""
import ctypes
import os
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from patience import PATIENCE_S
from test_oci import Runtime, rootfs  # noqa: F401 (a fixture)

STEP = int(os.environ.get("LODGE_KILL_STEP", "29"))
MARK = f"7{os.getpid()}"  # the sleep of our containers, to find its processes by


def first_of_sample(step, *what):
    """Each test its own, so that together they meet more than one residue."""
    return 1 + (zlib.crc32(" ".join(what).encode()) + int(os.environ.get("LODGE_SAMPLE", "0"))) % step


def processes():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"sleep\0{MARK}\0".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


def adopt_orphans(adopt):
    """What a killed runtime leaves is ours to reap: a pid namespace ends only when somebody has reaped its last process, and
    not every host's process 1 is quick at that. Only meanwhile: other tests do not reap."""
    ctypes.CDLL(None).prctl(36, int(adopt), 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap_orphans(but):
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if int(pid) != but:
            os.waitpid(int(pid), os.WNOHANG)


class Victim(Runtime):
    @property
    def pid_file(self):
        place = self.bundle.parent / "pid"
        place.mkdir(exist_ok=True)
        return place / "file"

    def quietly(self, *command):
        return subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=PATIENCE_S).returncode

    def verb(self, *args):
        assert self.quietly(*self.command(*args)) == 0, args

    def clean(self, what):
        with open(self.bundle / "delete", "w+") as said:
            done = subprocess.Popen(self.command("delete", "--force", self.name), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            deadline = time.monotonic() + PATIENCE_S
            while done.poll() is None and time.monotonic() < deadline:
                reap_orphans(done.pid)
                time.sleep(0.002)
            said.seek(0)
            assert done.returncode == 0, (what, said.read())
        while processes() and time.monotonic() < deadline:
            reap_orphans(done.pid)
            time.sleep(0.01)
        assert not processes(), what
        assert not [p for p in self.pid_file.parent.iterdir() if p != self.pid_file], what  # no temporary file beside it
        self.pid_file.unlink(missing_ok=True)
        # What begins with a dot is the root's own: the cache of system call filters.
        assert not [p for p in self.state.glob('*') if not p.name.startswith('.')], what
        self.nothing_left()


@pytest.fixture
def victim(program, rootfs, tmp_path):  # noqa: F811
    made = Victim(program("lodge-oci"), rootfs, tmp_path)
    made.write("sleep", MARK)
    adopt_orphans(True)
    yield made
    adopt_orphans(False)
    reap_orphans(0)


def prepare_none(v):
    pass


def prepare_created(v):
    v.verb("create", "--bundle", str(v.bundle), v.name)


def prepare_running(v):
    v.verb("run", "--detach", "--bundle", str(v.bundle), v.name)


def prepare_paused(v):
    prepare_running(v)
    v.verb("pause", v.name)


VERBS = {
    "create": (prepare_none, lambda v: ("create", "--pid-file", str(v.pid_file), "--bundle", str(v.bundle), v.name)),
    "run": (prepare_none, lambda v: ("run", "--detach", "--pid-file", str(v.pid_file), "--bundle", str(v.bundle), v.name)),
    "start": (prepare_created, lambda v: ("start", v.name)),
    "exec": (prepare_running, lambda v: ("exec", "--detach", "--pid-file", str(v.pid_file), v.name, "sleep", MARK)),
    "kill": (prepare_running, lambda v: ("kill", "--all", v.name, "KILL")),
    "pause": (prepare_running, lambda v: ("pause", v.name)),
    "resume": (prepare_paused, lambda v: ("resume", v.name)),
    "delete paused": (prepare_paused, lambda v: ("delete", "--force", v.name)),
    "update": (prepare_running, lambda v: ("update", "--pids-limit", "50", v.name)),
    "delete": (prepare_running, lambda v: ("delete", "--force", v.name)),
}


@pytest.mark.parametrize("whose", ["p", "c", "fp", "fc"])
@pytest.mark.parametrize("verb", VERBS)
def test_killed_anywhere(victim, build, verb, whose):
    """p, c: the runtime or its child is killed at a call; fp, fc: the call fails, and nobody crashes."""
    tool = build / "tests" / "kill_at_syscall"
    if not tool.exists():
        pytest.skip("kill_at_syscall is not built")
    if whose[0] == "f" and "LODGE_SANITIZED" in os.environ:
        pytest.skip("the sanitizers' own system calls must not fail")
    if whose[-1] == "c" and verb not in ("create", "run", "exec"):
        pytest.skip(f"{verb} has no process of its own")
    prepare, arguments = VERBS[verb]
    number, killed = first_of_sample(STEP, verb, whose), 0
    while number < 3000:
        prepare(victim)
        status = victim.quietly(tool, f"{whose}{number}", *victim.command(*arguments(victim)))
        victim.clean(f"{verb} killed at {whose}{number}")
        if status == 10:
            break
        assert status == 0, f"{verb} at {whose}{number}: {status}"
        killed += 1
        number += STEP
    assert killed >= 1, "a verb of so few calls proves nothing"
