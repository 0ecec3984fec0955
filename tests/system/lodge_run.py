# SPDX-License-Identifier: Apache-2.0
"""What the tests of `lodge run` share: the program in a world of its own, which is looked over after each test."""
import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_root
from patience import PATIENCE_S

SANITIZED = bool(os.environ.get("LODGE_SANITIZED"))
LIMIT = int(os.environ.get("LODGE_TEST_LIMIT", "240" if SANITIZED else "90"))


class Lodge:
    """Runs `lodge` with its own runtime directory, so that what it leaves behind can be told from what others do."""

    def __init__(self, program, guest, isolation=()):
        self.program = program
        self.isolation = list(isolation)
        # Short: socket paths are. None is the beginning of another's: they are looked for in others' words.
        self.runtime = Path(f"/run/lodge-{os.getpid()}-test")
        self.env = dict(os.environ, LODGE_HOME=str(guest), LODGE_RUNTIME=str(self.runtime))
        self.guest = guest

    def __call__(self, *args, **kwargs):
        kwargs.setdefault("timeout", LIMIT)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("env", self.env)
        return subprocess.run([self.program, *args], stdout=kwargs.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, **kwargs)

    def run(self, *args, **kwargs):
        return self("run", *self.isolation, *args, **kwargs)

    def start(self, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([self.program, "run", *self.isolation, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.env, **kwargs)

    def processes(self):
        """Every process that has our runtime directory in its environment or its command line: ours, whoever its parent is now."""
        marker = str(self.runtime).encode()
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                environ = Path(f"/proc/{entry}/environ").read_bytes()
                cmdline = Path(f"/proc/{entry}/cmdline").read_bytes()
                comm = Path(f"/proc/{entry}/comm").read_text().strip()
            except OSError:
                continue
            if marker in environ or marker in cmdline:
                found[int(entry)] = comm
        return found

    def descendants(self, pid):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
                    parents[int(entry)] = int(fields[1])
                except OSError:
                    continue
        found, fresh = set(), {pid}
        while fresh:
            fresh = {child for child, parent in parents.items() if parent in fresh} - found
            found |= fresh
        names = {}
        for child in found:
            try:
                names[child] = Path(f"/proc/{child}/comm").read_text().strip()
            except OSError:
                pass
        return names

    def leftovers(self):
        """What a run left: processes, entries of the runtime directory, mounts, cgroups."""
        left = [f"process {pid} ({name})" for pid, name in self.processes().items()]
        if self.runtime.exists():
            left += [f"file {path}" for path in self.runtime.iterdir()]
        left += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if str(self.runtime) in line]
        # Ours are named by the run's id; other runs on this machine are not our affair, and may remove theirs meanwhile: os.walk minds not.
        for at, directories, _ in os.walk("/sys/fs/cgroup"):
            if os.path.basename(at) == "lodge":
                left += [f"cgroup {at}/{name}" for name in directories if name in self.ids_seen]
        return left

    ids_seen: set = set()

    def note_ids(self):
        if self.runtime.exists():
            self.ids_seen |= {path.name for path in self.runtime.iterdir() if not path.name.startswith(".")}

    def assert_clean(self, within=PATIENCE_S):
        deadline = time.monotonic() + within
        while self.leftovers() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.leftovers()
        assert left == [], f"left behind: {left}"


def containers_of_test(program, guest):
    """A fixture's function: `lodge` for containers, which leaves nothing."""
    need_root()
    need_image(guest, "busybox")
    program("lodge-oci")
    lodge = Lodge(program("lodge"), guest)
    yield lodge
    lodge.assert_clean()


def machines_of_test(*options):
    """A fixture's function: `lodge` for virtual machines, with these options, which leaves nothing."""

    def machines(program, guest):
        need_image(guest, "busybox")
        need_kernel(guest, "cloud")
        program("lodge-vmm")
        lodge = Lodge(program("lodge"), guest, ["--vm", *options])
        yield lodge
        lodge.assert_clean()

    return machines


def need_image(guest, name):
    if not (guest / "images" / name / "config.json").exists():
        pytest.skip(f"needs the image {name}: tools/make_images.sh {name}")


def need_kernel(guest, name):
    if not (guest / "kernels" / name / "vmlinuz").exists():
        pytest.skip(f"needs the guest kernel {name}: tools/fetch_kernel.sh {name}")


def read_until(file, wanted, limit=LIMIT):
    """Reads a pipe or a terminal's master until `wanted` has come."""
    deadline = time.monotonic() + limit
    got = b""
    descriptor = file if isinstance(file, int) else file.fileno()
    while wanted not in got:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"only got {got!r}"
        try:
            data = os.read(descriptor, 65536)
        except OSError as error:
            raise AssertionError(f"{error}, after {got!r}") from error
        assert data, f"ended after {got!r}"
        got += data
    return got


def kill_group_member(processes, name, number=signal.SIGKILL):
    pid = next(pid for pid, comm in processes.items() if comm == name)
    os.kill(pid, number)
    return pid
