# SPDX-License-Identifier: Apache-2.0
"""`lodge` starts a manager by itself when none answers: one, however many ask at once, and whatever an earlier one left behind. What it
says of itself to Prometheus has the form that is wanted there."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess

import pytest

from conftest import need_root
from manager import Manager
from patience import until


class Unstarted(Manager):
    """Its directory is as a user's who never had a manager; who serves is found out by asking."""

    def pid(self):
        return self.good("GET", "/v1/info")["pid"]

    def ask_by(self, count, *arguments):
        """So many clients at once; all of them are served."""
        clients = [subprocess.Popen([self.bin / "lodge", *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                   for _ in range(count)]
        for client in clients:
            out, error = client.communicate(timeout=180)
            assert client.returncode == 0 and error == "", (out, error)

    def serving(self):
        """Pids of the managers with our directory, without those that are on their way out."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as environ, open(f"/proc/{name}/comm", encoding="utf-8") as comm:
                    if comm.read() == "lodged\n" and f"LODGE_MANAGER={self.dir}".encode() in environ.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
        return found


@pytest.fixture
def manager(build, guest):
    need_root()
    if not (guest / "images" / "busybox").exists():
        pytest.skip("needs the busybox image (make guest)")
    m = Unstarted(build, guest)
    yield m
    for pid in m.serving():
        os.kill(pid, signal.SIGTERM)
    until(lambda: not m.serving())
    shutil.rmtree(m.dir)


def test_many_first_clients_get_one_manager(manager):
    manager.ask_by(8, "ps", "-q")
    pid = manager.pid()
    until(lambda: manager.serving() == [pid])
    manager.ask_by(4, "ps", "-q")
    assert manager.pid() == pid
    for name in ("state", "run"):
        status = (manager.dir / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o700 and status.st_uid == os.geteuid()
    assert stat.S_IMODE(manager.socket.stat().st_mode) == 0o600


def test_what_a_killed_manager_left_is_no_hindrance(manager):
    manager.ask_by(1, "ps", "-q")
    pid = manager.pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not manager.serving())
    assert manager.socket.exists()
    manager.ask_by(6, "run", "--rm", "busybox", "true")
    new = manager.pid()
    assert new != pid
    until(lambda: manager.serving() == [new])


def test_a_socket_that_nobody_serves_and_open_directories(manager):
    run = manager.dir / "run"
    run.mkdir(mode=0o777)
    os.chmod(run, 0o777)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(manager.socket))
    manager.ask_by(2, "ps", "-q")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


def test_what_only_asks_is_asked_again(manager):
    """The manager was killed between a client's connection and its answer: who only reads gets that of the next one."""
    manager.ask_by(1, "create", "--name", "there", "busybox", "true")
    for words in (("ps", "-aq"), ("inspect", "there"), ("logs", "there")):
        os.kill(manager.pid(), signal.SIGKILL)
        until(lambda: not manager.serving())
        manager.socket.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(manager.socket))
            listener.listen(16)
            client = subprocess.Popen([manager.bin / "lodge", *words], env=manager.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            asked, _ = listener.accept()
            with asked:
                assert asked.recv(4096).startswith(b"GET ")
        out, error = client.communicate(timeout=180)
        assert (client.returncode, error) == (0, "") and (out or words[0] == "logs"), (words, out, error)
    manager.ask_by(1, "rm", "there")


def test_directories_of_others_are_refused(manager):
    run = manager.dir / "run"
    run.mkdir()
    os.chown(run, 12345, 12345)
    done = subprocess.run([manager.bin / "lodge", "ps"], env=manager.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 125 and "not a directory of ours" in done.stderr
    run.rmdir()
    target = manager.dir / "elsewhere"
    target.mkdir()
    run.symlink_to(target)
    done = subprocess.run([manager.bin / "lodge", "ps"], env=manager.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 125 and "not a directory of ours" in done.stderr
    assert not list(target.iterdir())


NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(\{{{LABEL}(?:,{LABEL})*,?\}})? (-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|[+-]Inf)$")


def check_metrics(text):
    """The text format 0.0.4, strictly: one family in one place, its HELP and TYPE once and before it, no sample twice."""
    families, seen, current = {}, set(), None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert re.fullmatch(NAME, name) and rest, line
            family = families.setdefault(name, {})
            assert word in ("HELP", "TYPE") and word not in family and not family.get("samples"), line
            family[word] = rest
            current = name
            assert word != "TYPE" or rest in ("counter", "gauge", "histogram", "summary", "untyped"), line
            continue
        sample = SAMPLE.match(line)
        assert sample, line
        name = sample.group(1)
        family = families[current]
        base = re.sub(r"_(bucket|sum|count)$", "", name) if family["TYPE"] in ("histogram", "summary") else name
        assert base == current and {"HELP", "TYPE"} <= set(family), line
        assert family["TYPE"] != "counter" or (name.endswith("_total") and float(sample.group(3)) >= 0), line
        assert line.rsplit(" ", 1)[0] not in seen, line
        seen.add(line.rsplit(" ", 1)[0])
        family["samples"] = True
    return families


def test_metrics_have_prometheus_form(manager):
    manager.ask_by(1, "run", "-d", "--name", "measured", "-l", 'odd="quoted\\ \n line', "busybox", "sleep", "1000")
    manager.lodge("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    manager.lodge("stop", "-t", "0", "other")
    text = manager.request("GET", "/metrics")[2].decode()
    families = check_metrics(text)
    assert families["lodge_instances"]["TYPE"] == "gauge" and families["lodge_starts_total"]["TYPE"] == "counter"
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
    assert families["lodge_instance_run_seconds_total"]["TYPE"] == "counter" and families["lodge_instance_memory_bytes"]["TYPE"] == "gauge"
    manager.lodge("rm", "-f", "measured", "other")
    until(lambda: not manager.shims())
