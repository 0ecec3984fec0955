# SPDX-License-Identifier: Apache-2.0
"""Further programs in virtual machines under the manager, and what it says of them; guests that answer with nonsense."""
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fake_vmm
from conftest import need_root
from manager import Manager
from patience import until
from processes import processes
from vmm import control

LIMIT_S = 120


def need_guest(guest):
    need_root()
    if not (guest / "images" / "busybox").exists() or not (guest / "kernels" / "cloud").exists():
        pytest.skip("needs the busybox image and the cloud kernel (make guest)")


@pytest.fixture(scope="module")
def manager(build, guest):
    need_guest(guest)
    m = Manager(build, guest).start()
    yield m
    m.close()


@pytest.fixture(scope="module")
def vm(manager):
    """One machine for all that do not end it."""
    manager.lodge("run", "-d", "--vm", "--name", "vm", "--env", "GREETING=hello", "--health-cmd", "test -e /well", "--health-interval", "1", "busybox",
                  "sh", "-c", "while :; do echo tick; sleep 1; done")
    return "vm"


def start(manager, *arguments, **options):
    # With LODGE_SOCKET it starts no manager of its own when ours was just killed.
    return subprocess.Popen([manager.bin / "lodge", *arguments], env=dict(manager.environment, LODGE_SOCKET=str(manager.socket)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def sessions(manager):
    """Pids of what stands for programs in machines of this manager."""
    return [pid for pid, words in processes() if len(words) > 3 and words[1] == "--session" and words[2].startswith(str(manager.dir))]


def test_streams_status_and_environment(manager, vm):
    done = start(manager, "exec", vm, "sh", "-c", "echo $GREETING; pwd; echo err >&2; exit 7")
    assert done.communicate(timeout=LIMIT_S) == (b"hello\n/\n", b"err\n") and done.returncode == 7
    assert manager.lodge("exec", "-e", "GREETING=again", "--env=MORE=a=b", "-e", "UNSET_HERE", vm, "sh", "-c",
                         "echo $GREETING $MORE ${UNSET_HERE-none}") == "again a=b none\n"
    assert manager.lodge("exec", "-i", "-w", "/tmp", vm, "sh", "-c", "pwd; cat", input="piped") == "/tmp\npiped"
    manager.lodge("exec", vm, "nosuch", status=127)
    manager.lodge("exec", "-u", "nobody-at-all", vm, "true", status=126)
    manager.lodge("exec", vm, "sh", "-c", "kill -9 $$", status=137)
    # The output of a program whose reader is slow is whole.
    data = os.urandom(3 << 20)
    done = start(manager, "exec", "-i", vm, "cat", stdin=subprocess.PIPE)
    assert done.communicate(data, timeout=LIMIT_S)[0] == data


def test_many_at_once_and_signals(manager, vm):
    many = [start(manager, "exec", "-i", vm, "sh", "-c", "read x; echo $x; exit $x", stdin=subprocess.PIPE) for _ in range(8)]
    for number, one in reversed(list(enumerate(many))):
        assert one.communicate(str(number).encode() + b"\n", timeout=LIMIT_S)[0] == b"%d\n" % number and one.returncode == number
    polite = start(manager, "exec", vm, "sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    assert polite.stdout.readline() == b"ready\n"
    polite.send_signal(signal.SIGTERM)
    assert polite.communicate(timeout=LIMIT_S)[0] == b"bye\n" and polite.returncode == 9


def test_terminal(manager, vm):
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    one = subprocess.Popen([manager.bin / "lodge", "exec", "-it", vm, "sh"], env=manager.environment, stdin=theirs, stdout=theirs, stderr=theirs,
                           start_new_session=True)
    os.close(theirs)
    os.write(ours, b"tty; stty size; exit 5\n")
    seen = b""
    while one.poll() is None or b"31 97" not in seen:
        try:
            seen += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    assert one.wait(LIMIT_S) == 5 and b"31 97" in seen and b"/dev/" in seen, seen


def test_what_is_said_of_it(manager, vm):
    sleeper = start(manager, "exec", vm, "sleep", "1234")
    until(lambda: any(p["command"] == "sleep 1234" for p in json.loads(manager.lodge("top", "--json", vm))))
    sleeper.kill()
    sleeper.wait()
    # Who hangs up ends the program, as at a terminal.
    until(lambda: not any(p["command"] == "sleep 1234" for p in json.loads(manager.lodge("top", "--json", vm))))
    stats = json.loads(manager.lodge("stats", "--json", vm))[0]
    assert stats["isolation"] == "vm" and stats["cpu_ns"] > 0 and 0 < stats["guest_memory_bytes"] < stats["memory_limit_bytes"] == 512 << 20
    assert stats["pids"] > 10 and stats["block_read_bytes"] > 0
    assert manager.lodge("stats").splitlines()[1].split()[:2] == ["vm", "vm"]
    wide = manager.lodge("stats", "--all", vm).splitlines()
    assert "WAIT s" in wide[-2] and wide[-1].split()[:2] == ["vm", "vm"] and float(wide[-1].split()[2]) > 0, wide
    followed = start(manager, "stats", "-f", "--json", vm)
    first, second = (json.loads(followed.stdout.readline())[0] for _ in range(2))
    assert second["cpu_ns"] >= first["cpu_ns"] > 0
    followed.kill()
    followed.wait()
    manager.lodge("stats", "nosuch", status=125)


def test_health_and_pause(manager, vm):
    assert manager.inspect(vm)["health"] in ("starting", "unhealthy")
    manager.lodge("exec", vm, "touch", "/well")
    manager.lodge("wait", "--condition", "healthy", "--timeout", "60", vm)
    manager.lodge("pause", vm)
    try:
        for path, method, body in (("/top", "GET", None), ("/exec", "POST", {"command": ["true"]})):
            headers = {"Content-Type": "application/json", "Connection": "Upgrade", "Upgrade": "lodge-stream"}
            status, _, text = manager.request(method, f"/v1/instances/{vm}{path}", body, headers if body else None)
            assert status == 409 and b"paused" in text
        assert json.loads(manager.lodge("stats", "--json", vm))[0]["guest_memory_bytes"] is None
    finally:
        manager.lodge("resume", vm)


@pytest.fixture(scope="module")
def container(manager):
    manager.lodge("run", "-d", "--name", "box", "busybox", "sleep", "100000")
    return "box"


@pytest.fixture(params=["container", "vm"])
def either(request):
    return request.getfixturevalue(request.param)


def tree(path):
    """What is below, as far as a copy keeps it."""
    return {str(p.relative_to(path)): (p.lstat().st_mode, os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None)
            for p in path.rglob("*")}


def test_files_in_and_out(manager, either, tmp_path):
    source = tmp_path / "source"
    (source / "deep" / ("n" * 200)).mkdir(parents=True)
    (source / "deep" / ("n" * 200) / "file").write_bytes(os.urandom(300000))
    (source / "script").write_text("#!/bin/sh\necho from here\n")
    (source / "script").chmod(0o755)
    (source / "link").symlink_to("/nowhere/at/all")
    os.mkfifo(source / "left-out")
    manager.lodge("cp", source, f"{either}:/opt")
    assert manager.lodge("exec", either, "/opt/script") == "from here\n"
    manager.lodge("cp", f"{either}:/opt", tmp_path / "back")
    (source / "left-out").unlink()
    assert tree(tmp_path / "back") == tree(source)
    manager.lodge("cp", f"{either}:/opt/.", tmp_path)  # into a directory that is there
    assert (tmp_path / "script").read_bytes() == (source / "script").read_bytes()
    # Links in the instance stay in it; what is outside has neither been read nor written.
    manager.lodge("exec", either, "sh", "-c", f"ln -s / /up; ln -s ../../../../..{tmp_path} /opt/out; mkdir -p {tmp_path}; touch {tmp_path}/theirs")
    (tmp_path / "ours").write_text("ours")
    manager.lodge("cp", source / "script", f"{either}:/opt/out/ours")
    assert (tmp_path / "ours").read_text() == "ours"
    manager.lodge("cp", f"{either}:/up/up/opt/out/theirs", tmp_path / "got")
    manager.lodge("cp", f"{either}:/opt/out/source", tmp_path / "got2", status=125)
    for words in (("nosuch:/x", tmp_path), (f"{either}:/nosuch", tmp_path), (f"{either}:/dev/null", tmp_path), (source, f"{either}:/no/such/place"),
                  (tmp_path / "nosuch", f"{either}:/"), (f"{either}:/opt", tmp_path / "ours")):
        manager.lodge("cp", *words, status=125)
    manager.lodge("cp", "here", "there", status=2)
    assert manager.lodge("exec", either, "cat", "/opt/script").endswith("from here\n")


def test_files_of_a_container_that_does_not_run(manager, tmp_path):
    manager.lodge("create", "--name", "still", "busybox", "cat", "/note", "/opt/f/note")
    (tmp_path / "note").write_text("noted\n")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "note").write_text("twice\n")
    manager.lodge("cp", tmp_path / "note", "still:/")
    manager.lodge("cp", tmp_path / "f", "still:/opt")
    manager.lodge("cp", "still:/note", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "noted\n"
    assert manager.good("POST", "/v1/instances/still/start") and manager.good("GET", "/v1/instances/still/wait")["exit_code"] in (0, 1)
    until(lambda: "noted" in manager.lodge("logs", "still"))
    manager.lodge("rm", "still")


def test_files_of_a_container_that_is_just_ending(manager, tmp_path):
    """Whatever its state is at that moment, they are there."""
    for i in range(8):
        manager.lodge("run", "-d", "--name", "brief", "busybox", "sh", "-c", "echo kept >/kept")
        manager.lodge("cp", "brief:/bin/busybox", tmp_path / "busybox")
        manager.lodge("rm", "-f", "brief")
    manager.lodge("run", "-d", "--name", "brief", "busybox", "true")
    manager.lodge("wait", "brief")
    done = subprocess.run([manager.bin / "lodge", "kill", "brief"], env=manager.environment, capture_output=True, text=True)
    assert done.returncode == 125 and "'brief' is exited" in done.stderr
    manager.lodge("rm", "brief")


def test_processes_have_memory_and_plain_names(manager, either):
    for process in json.loads(manager.lodge("top", "--json", either)):
        assert process["command"] == process["command"].strip() and (process["pid"] == 1 or process["resident_bytes"] > 8192), process


def test_files_of_a_machine_that_does_not_run(manager, tmp_path):
    """One that never ran, and one that has ended: what it wrote, and what was put there for it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(os.urandom(5 << 20))
    manager.lodge("create", "--vm", "--name", "off", "busybox", "sh", "-c", "cat /opt/note; echo from it >/its")
    (tmp_path / "tree" / "note").write_text("noted\n")
    manager.lodge("cp", tmp_path / "tree", "off:/opt")
    manager.lodge("start", "off")
    assert manager.lodge("wait", "off") == "0\n" and "noted" in manager.lodge("logs", "off")
    manager.lodge("cp", "off:/its", tmp_path / "its")
    manager.lodge("cp", "off:/opt", tmp_path / "back")
    assert (tmp_path / "its").read_text() == "from it\n"
    assert (tmp_path / "back" / "big").read_bytes() == (tmp_path / "tree" / "big").read_bytes()
    for words, said in ((("off:/no/such", tmp_path), "'/no"), (("off:/its", tmp_path / "tree" / "no" / "such"), "No such file"),
                        ((tmp_path / "its", "off:/no/such/place"), "/no/such/place")):
        done = subprocess.run([manager.bin / "lodge", "cp", *map(str, words)], env=manager.environment, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 125 and said in done.stderr, done
    manager.lodge("start", "off")
    manager.lodge("rm", "-f", "off")
    manager.lodge("vm", "create", "parts")  # no agent of ours is in there
    manager.lodge("cp", "parts:/etc", tmp_path, status=125)
    manager.lodge("rm", "parts")


def copies(manager):
    """Pids of the sessions that are there for copies of machines of this manager."""
    return [pid for pid, words in processes(f"LODGE_MANAGER={manager.dir}") if "--agent" in words[1:]]


@pytest.mark.parametrize("how", ["client", "manager"])
def test_a_copy_of_a_machine_is_broken_off(manager, tmp_path, how):
    """Nothing of it stays, and the machine starts."""
    (tmp_path / "note").write_text("noted\n")
    manager.lodge("create", "--vm", "--name", "cut", "busybox", "cat", "/note")
    one = start(manager, "cp", tmp_path / "note", "cut:/")
    until(lambda: copies(manager))
    if how == "client":
        one.kill()
    else:
        manager.kill()
    one.communicate(timeout=LIMIT_S)
    until(lambda: not copies(manager))
    if how == "manager":
        manager.start()
    manager.lodge("cp", tmp_path / "note", "cut:/")
    manager.lodge("start", "cut")
    assert manager.lodge("wait", "cut") == "0\n"
    manager.lodge("rm", "cut")


def test_a_copy_of_a_machine_with_a_damaged_layer(manager, tmp_path):
    """It fails with a reason, and what is wrong with it stays in there."""
    (tmp_path / "note").write_text("noted\n")
    made = manager.lodge("create", "--vm", "--name", "bad", "busybox", "true").strip()
    manager.lodge("cp", tmp_path / "note", "bad:/")
    layer = manager.dir / "state" / "instances" / made / "root.ext4"
    with open(layer, "r+b") as image:
        image.write(os.urandom(1 << 20))
    done = subprocess.run([manager.bin / "lodge", "cp", "bad:/note", tmp_path / "back"], env=manager.environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 125 and "writable layer" in done.stderr and not (tmp_path / "back").exists(), done
    manager.lodge("rm", "bad")


def test_the_manager_killed_beside_copies(manager, either, tmp_path):
    """Of either isolation, both ways: the client ends, nothing of it stays, and the next copy is whole."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(8 << 20))
    into = start(manager, "cp", big, f"{either}:/big")
    manager.kill()
    into.communicate(timeout=LIMIT_S)
    manager.start()
    manager.lodge("cp", big, f"{either}:/big")
    manager.lodge("cp", f"{either}:/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_the_manager_killed_beside_programs(manager, vm):
    one = start(manager, "exec", "-i", vm, "sh", "-c", "echo ready; read x; echo got $x; exit 3", stdin=subprocess.PIPE)
    assert one.stdout.readline() == b"ready\n"
    attached = start(manager, "attach", "--no-stdin", vm)
    assert attached.stdout.readline() == b"tick\n"
    manager.kill()
    manager.start()
    assert one.communicate(b"it\n", timeout=LIMIT_S)[0] == b"got it\n" and one.returncode == 3
    assert manager.lodge("exec", vm, "echo", "again") == "again\n"
    assert attached.poll() is None
    attached.kill()
    attached.wait()
    # One that is killed with its client, both at once: nothing stays behind.
    one = start(manager, "exec", vm, "sh", "-c", "echo ready; sleep 4321")
    assert one.stdout.readline() == b"ready\n"
    manager.kill()
    one.kill()
    one.wait()
    manager.start()
    # The manager's own checks come and go.
    until(lambda: not any("4321" in p["command"] for p in json.loads(manager.lodge("top", "--json", vm))))


def test_operations_are_looked_at_and_broken_off(manager):
    manager.lodge("create", "--vm", "--name", "slow", "busybox", "sleep", "1000")
    promised = manager.good("POST", "/v1/instances/slow/start?wait=0")
    assert promised["status"] == "running"
    until(lambda: manager.inspect("slow")["state"] == "starting")
    shown = until(lambda: [o for o in json.loads(manager.lodge("operation", "ls", "--json")) if o["id"] == promised["id"]])
    assert shown[0]["kind"] == "start" and shown[0]["progress"]["text"] in ("", "preparing its files", "booting")
    # Either it is broken off, or it was up before.
    status, answer = manager.ask("DELETE", f"/v1/operations/{promised['id']}")
    assert (status == 200 and answer["status"] == "failed" and manager.inspect("slow")["state"] == "exited") or status == 409
    manager.lodge("operation", "wait", promised["id"], status=125 if status == 200 else 0)
    manager.lodge("operation", "cancel", promised["id"], status=125)
    assert json.loads(manager.lodge("operation", "inspect", promised["id"]))["id"] == promised["id"]
    assert str(promised["id"]) in manager.lodge("operation", "ls", "--all")
    manager.lodge("operation", "inspect", "nosuch", status=125)
    manager.lodge("operation", "foo", status=2)
    manager.lodge("rm", "-f", "slow")


def test_log_as_json(build, guest, tmp_path):
    need_guest(guest)
    m = Manager(build, guest)
    log = tmp_path / "log"
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([m.bin / "lodged", "--log-format", "xml"], env=m.environment, capture_output=True, timeout=LIMIT_S, check=True)
    m.process = subprocess.Popen([m.bin / "lodged", "--log", log, "--log-format", "json", "--log-level", "debug"], env=m.environment)
    until(m.answers)
    ref = m.create("true", name="noted", start=True)
    m.request("GET", "/v1/instances/%22%0a%01%c3%28%E2%82%AC")  # quotes, controls, half characters, a whole one
    m.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "program", "message"} <= set(line) and line["program"] == "lodged" for line in lines)
    assert any(line.get("instance") == ref and line.get("operation", 0) > 0 and line["message"] == "start: done" for line in lines)
    assert any(line["message"].startswith("POST /v1/instances: 201") and f"uid {os.getuid()}" in line["client"] for line in lines)
    assert any("\u20ac" in line["message"] and "\n" in line["message"] for line in lines)
    assert lines[-1]["level"] == "info" and "signal 15" in lines[-1]["message"]


def test_limits_of_a_running_machine(manager, vm):
    manager.lodge("update", "--cpu-max", "0.3", "--cpu-shares", "512", vm)
    busy = start(manager, "exec", vm, "sh", "-c", "while :; do :; done")
    # What the kernel says that it held up, not what a clock would show on a busy host.
    until(lambda: (json.loads(manager.lodge("stats", "--json", vm))[0]["throttled_ns"] or 0) > 100e6)
    busy.kill()
    busy.wait()
    manager.lodge("update", "--cpu-max", "0", "--cpu-shares", "0", vm)
    manager.lodge("update", "-m", "128M", vm)
    path = manager.dir / "run" / "i" / manager.inspect(vm)["id"] / "v" / "vm" / "control"
    until(lambda: control(path, {"command": "balloon"})[0]["result"]["guest_bytes"] <= 128 << 20)
    assert manager.inspect(vm)["spec"]["resources"]["memory_bytes"] == 128 << 20
    manager.lodge("update", "-m", "0", vm)
    for words in (("-m", "4G"), ("-m", "1M"), ("--pids", "10"), ("--cpu-millis", "2000")):
        manager.lodge("update", *words, vm, status=125)
    assert "memory_bytes" not in manager.inspect(vm)["spec"]["resources"]


def test_what_a_machine_wrote_is_there_at_the_next_start(manager):
    ref = manager.lodge("run", "-d", "--vm", "--name", "keeps", "busybox", "sh", "-c", "cat /note; while :; do sleep 1; done").strip()
    manager.lodge("exec", "keeps", "sh", "-c", "echo first > /note; rm /etc/group; mkdir -m 700 /kept")
    manager.lodge("stop", "-t", "0", "keeps")  # killed: written back all the same
    manager.lodge("start", "keeps")
    until(lambda: "first\n" in manager.lodge("logs", "keeps"))
    assert manager.lodge("exec", "keeps", "sh", "-c", "ls -d /kept; test -e /etc/group || echo gone; echo second > /note") == "/kept\ngone\n"
    manager.lodge("restart", "-t", "0", "keeps")
    until(lambda: "second\n" in manager.lodge("logs", "keeps"))
    layer = manager.dir / "state" / "instances" / ref / "root.ext4"
    assert layer.stat().st_blocks * 512 < 64 << 20 and layer.stat().st_size == 10 << 30
    manager.lodge("rm", "-f", "keeps")
    assert not layer.parent.exists()


@pytest.mark.parametrize("how", sorted(set(fake_vmm.SESSIONS) - {"silent", "endless", "nonsense-top"}))
def test_a_session_with_nonsense_ends(build, tmp_path, how):
    path = str(tmp_path / "v")
    threading.Thread(target=fake_vmm.serve_sessions, args=(path, fake_vmm.SESSIONS[how]), daemon=True).start()
    until(lambda: os.path.exists(path))
    request = tmp_path / "request"
    request.write_text(json.dumps({"args": ["x"], "env": [], "cwd": "/", "user": "", "terminal": False, "stdin": False}))
    done = subprocess.run([Path(build) / "bin" / "lodge-shim", "--session", path, request], capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 125 and b"lodge: " in done.stderr and b"\x1b" not in done.stderr, done


def test_a_monitor_without_the_port(build, tmp_path):
    path = str(tmp_path / "v")
    threading.Thread(target=fake_vmm.serve_sessions, args=(path, b"", b"nonsense\n"), daemon=True).start()
    until(lambda: os.path.exists(path))
    request = tmp_path / "request"
    request.write_text('{"args": ["x"]}')
    for words in ((path, request), (str(tmp_path / "nosuch"), request), (path, tmp_path / "nosuch")):
        done = subprocess.run([Path(build) / "bin" / "lodge-shim", "--session", *words], capture_output=True, timeout=LIMIT_S)
        assert done.returncode == 125 and done.stderr.startswith(b"lodge: "), done


@pytest.fixture(params=["nonsense-top", "endless", "silent"])
def hostile(build, guest, tmp_path, request):
    """A manager whose machine answers every session so."""
    need_guest(guest)
    fake = tmp_path / "vmm"
    fake.write_text(f'#!/bin/sh\nLODGE_FAKE=session-{request.param} exec {sys.executable} {Path(__file__).parent / "fake_vmm.py"} "$@"\n')
    fake.chmod(0o755)
    m = Manager(build, guest)
    m.environment["LODGE_VMM"] = str(fake)
    m.start()
    m.lodge("run", "-d", "--vm", "--name", "bad", "busybox", "x")
    yield m, request.param
    m.close()


def test_a_hostile_guest_holds_nobody_up(hostile):
    manager, how = hostile
    if how == "silent":
        one = start(manager, "exec", "bad", "true")
        time.sleep(0.2)
        one.send_signal(signal.SIGINT)  # passed on, to deaf ears
        one.kill()
        one.wait()
    else:
        began = time.monotonic()
        status, answer = manager.ask("GET", "/v1/instances/bad/top")
        assert status >= 400 and answer["error"]["message"] and time.monotonic() - began < LIMIT_S
    assert manager.answers()
    until(lambda: not sessions(manager))
    manager.lodge("rm", "-f", "bad")
