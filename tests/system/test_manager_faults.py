# SPDX-License-Identifier: Apache-2.0
"""The manager's disk full, failing, read-only, damaged: clear words, guests go on, nothing that was acknowledged is lost, and nothing
that was refused is there."""
import errno
import os
import shutil
import sqlite3
import subprocess

import pytest

from conftest import need_root
from manager import Manager
from patience import until


class Disk:
    """A manager whose state is on a small file system of its own."""

    def __init__(self, build, guest):
        self.manager = Manager(build, guest)
        self.state = self.manager.dir / "state"
        self.state.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", self.state], check=True)
        self.control = self.manager.dir / "fail"
        self.filler = self.state / "filler"

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.state], check=True)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError as full:
                assert full.errno == errno.ENOSPC

    def preload(self, build):
        library = build / "tests" / "failing_io.so"
        if not library.exists():
            pytest.skip("needs the failing disk, which is not built with sanitizers")
        self.manager.environment.update(LD_PRELOAD=str(library), LODGE_IO_DIR=str(self.state), LODGE_IO_FAIL=str(self.control))

    def refused_start(self):
        """What it says when it does not start."""
        done = subprocess.run([self.manager.program], env=self.manager.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1, done
        return done.stderr

    def close(self):
        self.filler.unlink(missing_ok=True)
        self.control.unlink(missing_ok=True)
        self.remount("rw")
        try:
            if self.manager.process:
                self.manager.end()
        finally:
            subprocess.run(["umount", "-l", self.state], check=False)
            shutil.rmtree(self.manager.dir, ignore_errors=True)


@pytest.fixture
def disk(build, guest):
    need_root()
    if not (guest / "images" / "busybox").exists():
        pytest.skip("needs the busybox image (make guest)")
    d = Disk(build, guest)
    yield d
    d.close()


def goes_on(manager, ref, pid):
    """The very same first process; known a moment after the start."""
    until(lambda: manager.inspect(ref)["pid"] == pid)
    return manager.inspect(ref)["state"] == "running"


def names(manager):
    return {instance["name"] for instance in manager.good("GET", "/v1/instances?all=1")["instances"]}


def create(manager, name):
    return manager.ask("POST", "/v1/instances", {"image": "busybox", "command": ["sleep", "1000"], "name": name})


def create_until_refused(manager, status, limit=3000):
    made = set()
    for number in range(limit):
        got, answer = create(manager, f"more{number}")
        if got != 201:
            assert got == status and answer["error"]["message"], (got, answer)
            return made
        made.add(f"more{number}")
    raise AssertionError("it is never refused")


def test_a_full_disk(disk):
    m = disk.manager.start()
    runs = m.create("sleep", "1000", name="runs", start=True)
    ends = m.create("sh", "-c", "while ! test -e /go; do sleep 0.05; done; exit 3", name="ends", start=True)
    large = m.create("sh", "-c", "head -c 1000000 /dev/zero > /large; sleep 1000", name="large", start=True)
    pid = m.inspect(runs)["pid"]
    until(lambda: m.lodge("exec", large, "sh", "-c", "wc -c < /large").strip() == "1000000")
    m.good("POST", "/v1/instances/large/stop", {"timeout_s": 0})
    m.lodge("exec", ends, "touch", "/go.not")  # its layer has its directory
    disk.fill()
    made = create_until_refused(m, 507)
    status, answer = m.ask("PATCH", "/v1/instances/large", {"labels": {"a": "b" * 4000}})
    assert status == 507 and "No space left" in answer["error"]["message"]
    # Killed on a full disk, it starts again, and knows what it had said.
    m.kill()
    m.start()
    assert names(m) == made | {"runs", "ends", "large"}
    assert goes_on(m, runs, pid)
    # An end is noted as soon as that can be; what is removed makes room.
    os.kill(until(lambda: m.inspect(ends)["pid"]), 9)
    m.good("DELETE", "/v1/instances/large")
    disk.filler.unlink()
    until(lambda: m.inspect(ends)["state"] == "exited")
    assert create(m, "after")[0] == 201
    m.kill()
    m.start()
    assert names(m) == made | {"runs", "ends", "after"}
    assert m.inspect(ends)["exit_code"] == 137 and goes_on(m, runs, pid)


@pytest.mark.parametrize("number, status", [(errno.EIO, 500), (errno.ENOSPC, 507)], ids=["EIO", "ENOSPC"])
def test_a_failing_disk(disk, build, number, status):
    disk.preload(build)
    m = disk.manager.start()
    runs = m.create("sleep", "1000", name="runs", start=True)
    pid = m.inspect(runs)["pid"]
    for round_ in range(3):
        assert create(m, f"good{round_}")[0] == 201
        disk.control.write_text(str(number))
        got, answer = create(m, f"bad{round_}")
        assert got == status and "could not be stored" in answer["error"]["message"], answer
        assert m.ask("DELETE", f"/v1/instances/good{round_}")[0] in (500, 507)
        assert m.inspect(runs)["state"] == "running" and m.answers()
        disk.control.unlink()
    there = names(m)
    assert not any(name.startswith("bad") for name in there)
    m.kill()
    m.start()
    assert names(m) == there and goes_on(m, runs, pid)
    assert create(m, "last")[0] == 201


def test_a_disk_that_became_read_only(disk):
    m = disk.manager
    m.start()
    create(m, "there")
    m.stop()
    disk.remount("ro")
    said = disk.refused_start()
    assert "Read-only file system" in said and str(disk.state) in said
    disk.remount("rw")
    m.start()
    assert names(m) == {"there"}


def damage_header(path):
    with open(path, "r+b") as file:
        file.write(b"this is no database at all, is it")


def damage_middle(path):
    with open(path, "r+b") as file:
        for offset in range(4096, os.path.getsize(path), 4096):
            file.seek(offset)
            file.write(os.urandom(512))


def damage_length(path):
    os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096 + 100)


def damage_away(path):
    os.unlink(path)


def damage_newer(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value='99' WHERE name='schema'")
    database.close()


@pytest.mark.parametrize("damage, word", [(damage_header, "not a database"), (damage_middle, "damaged"), (damage_length, "state.db"), (damage_away, "is not there"),
                                          (damage_newer, "newer lodged")], ids=lambda value: getattr(value, "__name__", ""))
def test_a_store_that_is_not_ours_to_go_on_with(disk, damage, word):
    """Refused by name, and left as it is; with the right one back, everything goes on."""
    m = disk.manager.start()
    runs = m.create("sleep", "1000", name="runs", start=True)
    for number in range(20):
        m.create("true", name=f"n{number}")
    pid, there = m.inspect(runs)["pid"], names(m)
    m.stop()
    store = disk.state / "state.db"
    whole = store.read_bytes()
    damage(store)
    left = store.read_bytes() if store.exists() else None
    said = disk.refused_start()
    assert word in said and str(store) in said, said
    assert (store.read_bytes() if store.exists() else None) == left
    for name in ("state.db-wal", "state.db-shm"):
        (disk.state / name).unlink(missing_ok=True)
    store.write_bytes(whole)
    m.start()
    assert names(m) == there and goes_on(m, runs, pid)
