# SPDX-License-Identifier: Apache-2.0
"""Work on images and disks as operations of the manager: with figures while it goes on, a result afterwards, and nothing half-made when it is broken off."""
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import need_root
from manager import Manager
from patience import PATIENCE_S, until
from processes import processes
from test_images import registry  # noqa: F401, a fixture

MIB = 1 << 20


@pytest.fixture
def manager(build, tmp_path):
    need_root()
    home = tmp_path / "home"
    home.mkdir()
    m = Manager(build, home)
    m.home = home
    m.tree = tmp_path / "tree"
    (m.tree / "bin").mkdir(parents=True)
    (m.tree / "bin" / "sh").write_bytes(b"x" * MIB)
    m.start()
    yield m
    m.close()


def contents(home):
    """What there is of images."""
    return sorted(str(path.relative_to(home)) for path in (home / "oci").rglob("*") if not path.name.endswith(".lock") and path.name not in ("index.json", "oci-layout"))


def test_push_and_pull(manager, registry):
    (manager.tree / "bin" / "data").write_bytes(os.urandom(8 * MIB))
    manager.lodge("image", "import", "-q", manager.tree, "app:1")
    manager.lodge("image", "push", "--insecure", "app:1", f"{registry}/some/app:v1")
    manager.lodge("image", "rm", "app:1")
    pulled = manager.lodge("image", "pull", "--insecure", f"{registry}/some/app:v1", "app:2")
    assert pulled == "app:2\n"
    assert manager.ask("POST", "/v1/images", {"action": "push", "name": "nosuch"})[0] == 404
    refused = manager.ask("POST", "/v1/images", {"action": "pull", "reference": f"{registry}/some/other", "insecure": True})[1]
    assert "manifest unknown" in refused["error"]["message"]
    kinds = [(one["kind"], one["status"]) for one in manager.good("GET", "/v1/operations")["operations"]]
    assert kinds[1:] == [("image-push", "done"), ("image-remove", "done"), ("image-pull", "done"), ("image-push", "failed"), ("image-pull", "failed")]
    assert list((manager.home / "oci" / "tmp").iterdir()) == []


class Narrow:
    """A way to a server that lets only so many bytes through, until it is opened."""

    def __init__(self, address, most):
        host, port = address.split(":")
        self.target, self.left, self.opened = (host, int(port)), most, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, source, target, counted):
        try:
            while data := source.recv(65536):
                if counted:
                    self.left -= len(data)
                    if self.left < 0:
                        self.opened.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_a_push_has_figures(manager, registry):
    (manager.tree / "bin" / "data").write_bytes(os.urandom(64 * MIB))
    manager.lodge("image", "import", "-q", manager.tree, "app:1")
    narrow = Narrow(registry, 8 * MIB)
    body = {"action": "push", "name": "app:1", "reference": f"{narrow.address}/some/app:v1", "insecure": True}
    number = manager.good("POST", "/v1/images?wait=0", body)["id"]
    progress = until(lambda: get(manager, number)["progress"]["done"] > 6 * MIB and get(manager, number)["progress"])
    assert progress["text"] == "sending" and progress["unit"] == "bytes" and 64 * MIB < progress["total"] < 68 * MIB
    assert progress["done"] < progress["total"] - 16 * MIB and get(manager, number)["status"] == "running"
    narrow.opened.set()
    over = get(manager, number, 60)
    assert over["status"] == "done" and over["progress"]["done"] == over["progress"]["total"] == progress["total"]
    again = manager.good("POST", "/v1/images", body)  # what the registry has is as good as sent
    assert again["status"] == "done" and again["progress"]["done"] == progress["total"]
    narrow.listener.close()


def start_endless(manager):
    """An import that does not end by itself: of a file with a very large hole."""
    path = manager.home.parent / "endless"
    path.mkdir(exist_ok=True)
    with open(path / "hole", "wb") as hole:
        hole.truncate(1 << 40)
    operation = manager.good("POST", "/v1/images?wait=0", {"action": "import", "path": str(path), "name": "endless"})
    assert operation["status"] == "running" and operation["kind"] == "image-import" and operation["subject"] == str(path)
    return operation["id"]


def get(manager, number, wait=0):
    return manager.good("GET", f"/v1/operations/{number}?wait={wait}")


def stop_workers(manager):
    """They shall not fill the disk meanwhile."""
    for pid in workers(manager):
        os.kill(pid, signal.SIGSTOP)


def endless(manager):
    """Likewise, standing still in the middle of its work."""
    number = start_endless(manager)
    until(lambda: get(manager, number)["progress"]["done"])
    stop_workers(manager)
    return number


def workers(manager):
    """Pids of the processes that work for our store."""
    return [pid for pid, words in processes(f"LODGE_HOME={manager.home}") if "--report" in words]


def archive(manager):
    path = manager.tree.parent / "t.tar"
    with open(path, "wb") as tar:
        subprocess.run(["tar", "c", "-C", manager.tree, "."], stdout=tar, check=True)
    return path


def test_import_is_an_operation_that_is_remembered(manager):
    assert manager.lodge("image", "import", "tree", "app:1", cwd=manager.tree.parent) == "app:1\n"  # a path from where we are
    made = json.loads(manager.lodge("image", "import", "--json", manager.tree, "app:2"))
    assert made["names"] == ["app:2"] and made["layers"] == 1 and made["layers_new"] == 0
    assert "no tar archive" in subprocess.run([manager.bin / "lodge", "image", "import", manager.tree / "bin/sh"], env=manager.environment, capture_output=True, text=True).stderr
    assert manager.lodge("image", "import", "--local", manager.tree, "app:3") == "app:3\n"  # no operation
    with open(archive(manager), "rb") as tar:
        assert manager.lodge("image", "import", "-", "app:4", stdin=tar) == "app:4\n"
    before = manager.good("GET", "/v1/operations")["operations"]
    assert [(one["kind"], one["status"]) for one in before] == [("image-import", status) for status in ("done", "done", "failed", "done")]
    assert before[1]["result"] == made and before[2]["result"] == {} and "no tar archive" in before[2]["error"]
    manager.kill()
    manager.start()
    after = manager.good("GET", "/v1/operations")["operations"]
    assert [(one["id"], one["subject"], one["result"], one["error"]) for one in after] == [(one["id"], one["subject"], one["result"], one["error"]) for one in before]
    assert {one["name"] for one in manager.good("GET", "/v1/images")["images"]} == {"app:1", "app:2", "app:3", "app:4"}
    for name in ("app:1", "app:2", "app:3"):
        manager.good("DELETE", f"/v1/images?name={name}")
    assert manager.ask("DELETE", "/v1/images?name=app:1")[0] == 404
    assert manager.good("POST", "/v1/images/prune", {"all": True})["result"]["layers"] >= 1
    assert manager.good("GET", "/v1/images")["images"] == [] and not [name for name in contents(manager.home) if "/layers/" in name or "sha256/" in name]


def digests(manager):
    return {one["name"]: one["digest"] for one in manager.good("GET", "/v1/images")["images"]}


def test_every_change_is_an_operation(manager):
    """What the verbs say and do is the same by the manager and without it; each is in its list, and told as an event."""
    said = []
    for local in ([], ["--local"]):
        path = archive(manager)
        said.append([manager.lodge("image", "import", *local, path), manager.lodge("image", "tag", *local, "t", "app:1"),
                     manager.lodge("image", "import", *local, manager.tree, "app:2"), manager.lodge("image", "rm", *local, "t", "app:1"),
                     manager.lodge("image", "rm", *local, "--force", "nosuch"), json.loads(manager.lodge("image", "rm", *local, "--json", "app:2")),
                     manager.lodge("image", "rm", *local, "app:2", status=125), manager.lodge("image", "import", *local, manager.tree, "app:3"),
                     manager.lodge("image", "prune", *local, "--all"), json.loads(manager.lodge("image", "prune", *local, "--json"))])
    assert said[0] == said[1] and said[0][0] == "t:latest\n" and said[0][3] == "t:latest\napp:1\n" and said[0][5]["removed"] == ["app:2"]
    kinds = [(one["kind"], one["status"]) for one in manager.good("GET", "/v1/operations")["operations"]]
    remove = ("image-remove", "done")
    assert kinds == [("image-import", "done"), ("image-tag", "done"), ("image-import", "done"), remove, remove, remove, remove, ("image-remove", "failed"),
                     ("image-import", "done"), ("image-prune", "done"), ("image-prune", "done")]
    events = told(manager)[:len(kinds)]
    assert [one["event"] for one in events] == [kind + ("" if status == "done" else "-failed") for kind, status in kinds]
    assert events[1]["detail"] == "t" and events[7]["detail"].startswith("app:2: ")


def told(manager):
    """All events of this manager."""
    status, _, data = manager.request("GET", "/v1/events?follow=0&since=0")
    assert status == 200
    return [json.loads(line) for line in data.decode().splitlines()]


def test_what_is_imported_is_read_by_who_imports(manager, program):
    """The verb opens the file, in its own namespaces and with its own rights; the manager sees bytes only."""
    hidden = manager.home.parent / "hidden"
    hidden.mkdir()
    script = 'mount -t tmpfs none "$1" && mkdir "$1/tree" && echo here >"$1/tree/file" && exec "$2" image import "$1/tree" seen'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(hidden), str(manager.bin / "lodge")], env=manager.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "seen:latest\n", done
    assert not list(hidden.iterdir()) and set(digests(manager)) == {"seen:latest"}
    assert manager.good("GET", "/v1/operations")["operations"][-1]["subject"] == f"{hidden}/tree"


def test_kinds_of_sources(manager):
    """A directory, a tar of it and that through a pipe are one image, as without the manager; so are a layout's directory and its tar."""
    path, home = archive(manager), manager.home.parent
    for local in ([], ["--local"]):
        name = "own" if local else "sent"
        manager.lodge("image", "import", *local, manager.tree, f"{name}:dir")
        manager.lodge("image", "import", *local, path, f"{name}:tar")
        piped = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
        manager.lodge("image", "import", *local, "-", f"{name}:pipe", stdin=piped.stdout)
        piped.wait()
    found = digests(manager)
    layers = {name: json.loads(manager.lodge("image", "inspect", name))["layers"][0]["digest"] for name in found}
    for kind in ("dir", "tar", "pipe"):
        assert layers[f"own:{kind}"] == layers[f"sent:{kind}"]
    manager.lodge("image", "save", "sent:tar", "-o", home / "saved.tar")
    (home / "layout").mkdir()
    subprocess.run(["tar", "x", "-C", home / "layout", "-f", home / "saved.tar"], check=True)
    manager.lodge("image", "import", home / "saved.tar", "saved:tar")
    manager.lodge("image", "import", home / "layout", "saved:dir")
    found = digests(manager)
    assert found["saved:tar"] == found["saved:dir"] == found["sent:tar"]
    for wrong in (home / "nosuch", "/dev/null"):
        done = subprocess.run([manager.bin / "lodge", "image", "import", str(wrong)], env=manager.environment, capture_output=True, text=True)
        assert done.returncode == 125 and str(wrong) in done.stderr


FAKE = """#!/bin/sh
while [ "$1" != --authfile ]; do shift; done
echo "level=fatal msg=\\"known: $(cat "$2")\\"" >&2; exit 1
"""


def test_credentials_are_read_by_who_has_them(manager):
    """From a file that the manager cannot find, or a pipe; and stored nowhere."""
    manager.lodge("image", "import", "-q", manager.tree, "app:1")
    hidden, tools = manager.home.parent / "hidden", manager.home.parent / "tools"
    hidden.mkdir()
    tools.mkdir()
    (tools / "skopeo").write_text(FAKE)
    (tools / "skopeo").chmod(0o755)
    manager.kill()
    manager.environment["PATH"] = f"{tools}:{os.environ['PATH']}"
    manager.start()
    script = 'mount -t tmpfs none "$1" && echo from-a-file >"$1/auth" && "$2" image pull --authfile "$1/auth" host/x; REGISTRY_AUTH_FILE="$1/auth" exec "$2" image push app:1 host/x'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(hidden), str(manager.bin / "lodge")], env=manager.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 125 and done.stderr.count("known: from-a-file") == 2, done
    for local in ([], ["--local"]):
        done = subprocess.run([manager.bin / "lodge", "image", "pull", *local, "--authfile", "-", "host/x"], input="from-a-pipe", env=manager.environment, capture_output=True, text=True, timeout=PATIENCE_S)
        assert "known: from-a-pipe" in done.stderr, done
    kinds = [(one["kind"], one["status"]) for one in manager.good("GET", "/v1/operations")["operations"]]
    assert kinds[1:] == [("image-pull", "failed"), ("image-push", "failed"), ("image-pull", "failed")]
    for wrong in ({"action": "import", "path": "/x"}, {"action": "tag", "name": "app:1", "reference": "b"}, {"action": "pull", "reference": "x", "auth_file": "/x"}):
        assert manager.ask("POST", "/v1/images", {**wrong, "credentials": True})[0] == 400, wrong


def upload(manager, **members):
    operation = manager.good("POST", "/v1/images?wait=0", {"action": "import", "upload": True, **members})
    assert operation["status"] == "running" and operation["kind"] == "image-import"
    return operation["id"]


TAR = {"Content-Type": "application/x-tar"}


def test_content_by_the_api(manager):
    data = archive(manager).read_bytes()
    number = upload(manager, name="app:1", source="some/where.tar")
    path = f"/v1/operations/{number}/content"
    assert get(manager, number)["progress"]["text"] == "waiting for its content"
    for headers, status in (({"Content-Type": "application/json"}, 415), ({}, 415), ({**TAR, "Origin": "http://evil.test"}, 403)):
        assert manager.request("PUT", path, b"short", headers)[0] == status
    status, _, answer = manager.request("PUT", path, data, TAR)
    over = json.loads(answer)
    assert status == 200 and over["status"] == "done" and over["result"]["names"] == ["app:1"] and over["subject"] == "some/where.tar"
    assert manager.request("PUT", path, b"short", TAR)[0] == 409 and manager.request("PUT", "/v1/operations/4711/content", b"short", TAR)[0] == 404
    for wrong in ({"path": "/x"}, {"source": "-x"}, {"source": ""}, {"action": "pull", "reference": "x"}):
        assert manager.ask("POST", "/v1/images", {"action": "import", "upload": True, **wrong})[0] == 400, wrong
    assert manager.ask("POST", "/v1/images", {"action": "import", "source": "x", "path": "/x"})[0] == 400
    # One that waits is cancelled; and forgotten with the manager.
    number = upload(manager)
    assert manager.good("DELETE", f"/v1/operations/{number}")["error"] == "it was cancelled"
    assert manager.request("PUT", f"/v1/operations/{number}/content", b"short", TAR)[0] == 409
    number = upload(manager)
    manager.kill()
    manager.start()
    until(lambda: get(manager, number, 1)["error"] == "the manager ended")


def send_part(manager, number, data, length):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(manager.socket))
    connection.sendall(f"PUT /v1/operations/{number}/content HTTP/1.1\r\nHost: lodge\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n".encode() + data)
    return connection


def test_content_that_is_cut_off_is_no_image(manager):
    """At the end of a member, where a tar could have ended, and in its middle; by who sends it, by a cancellation, by its process's end."""
    data = archive(manager).read_bytes()
    before = contents(manager.home) if (manager.home / "oci").exists() else []
    for part in (512, 1536, len(data) // 2, len(data) - 1024):
        number = upload(manager, name="part")
        connection = send_part(manager, number, data[:part], len(data))
        until(lambda: get(manager, number)["progress"]["done"] == part)
        assert get(manager, number)["progress"]["total"] == len(data)
        connection.close()
        assert get(manager, number, 60)["error"] == "its content was cut off"
    for end, why in ((lambda: manager.good("DELETE", f"/v1/operations/{number}"), "it was cancelled"), (lambda: os.kill(workers(manager)[0], signal.SIGKILL), "signal 9")):
        number = upload(manager, name="part")
        with send_part(manager, number, data[:1024], 1 << 40) as connection:
            until(lambda: workers(manager))
            end()
            assert why in get(manager, number, 60)["error"]
            with pytest.raises(OSError):  # nobody wants the rest
                while True:
                    connection.sendall(data)
    assert digests(manager) == {} and workers(manager) == []
    assert [name for name in contents(manager.home) if name not in before and "tmp/" in name] == []


def test_what_is_cancelled_leaves_nothing(manager):
    manager.lodge("image", "import", "-q", manager.tree, "app:1")
    before = contents(manager.home)
    number = start_endless(manager)
    first = until(lambda: get(manager, number)["progress"]["done"])
    progress = until(lambda: get(manager, number)["progress"]["done"] > first and get(manager, number)["progress"])
    stop_workers(manager)
    assert progress["text"] == "packing" and progress["unit"] == "bytes" and len(workers(manager)) == 1
    assert "packing" in manager.lodge("operation", "ls")
    assert json.loads(manager.lodge("operation", "cancel", number))["error"] == "it was cancelled"
    assert workers(manager) == [] and contents(manager.home) == before
    assert get(manager, number)["status"] == "failed" and manager.ask("DELETE", f"/v1/operations/{number}")[0] == 409
    # More than run at a time: those that wait are cancelled as well as those that work.
    numbers = [endless(manager) for _ in range(4)] + [start_endless(manager) for _ in range(2)]
    assert len(workers(manager)) == 4 and get(manager, numbers[5])["progress"]["text"] == "waiting"
    for number in reversed(numbers):
        assert manager.good("DELETE", f"/v1/operations/{number}")["status"] == "failed"
    assert workers(manager) == [] and manager.good("GET", "/v1/info")
    manager.lodge("image", "prune")
    assert contents(manager.home) == before


def test_whoever_interrupts_the_verb_cancels(manager):
    manager.good("DELETE", f"/v1/operations/{endless(manager)}")
    verb = subprocess.Popen([manager.bin / "lodge", "image", "import", manager.home.parent / "endless", "x"], env=manager.environment, stderr=subprocess.PIPE, text=True)
    until(lambda: workers(manager))
    stop_workers(manager)
    verb.send_signal(signal.SIGINT)
    assert "it was cancelled" in verb.communicate(timeout=60)[1] and verb.returncode == 125
    assert workers(manager) == [] and list((manager.home / "oci" / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_when_the_manager_ends_the_work_does(manager, how):
    manager.lodge("image", "import", "-q", manager.tree, "app:1")
    before = contents(manager.home)
    number = endless(manager)
    manager.kill() if how == "killed" else manager.stop()
    until(lambda: workers(manager) == [])
    manager.start()
    over = get(manager, number, 60)
    assert (over["status"], over["error"]) == ("failed", "the manager ended")
    assert contents(manager.home) == before and len(manager.good("GET", "/v1/operations")["operations"]) == 2


def test_a_worker_that_dies_is_a_failure(manager):
    number = endless(manager)
    os.kill(workers(manager)[0], signal.SIGKILL)
    over = get(manager, number, 60)
    assert over["status"] == "failed" and over["error"] == "its process was ended by signal 9"
    assert list((manager.home / "oci" / "tmp").iterdir()) == []


def disks(manager):
    directory = manager.home / "vdisks"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_disks(manager, tmp_path):
    made = manager.good("POST", "/v1/disks", {"name": "a", "size_bytes": 4 * MIB})
    path = Path(made["result"]["path"])
    assert made["kind"] == "disk-create" and made["subject"] == "a" and path.stat().st_size == 4 * MIB and disks(manager) == ["a.raw"]
    assert manager.ask("POST", "/v1/disks", {"name": "a", "size_bytes": MIB})[0] == 409
    assert manager.ask("POST", "/v1/disks", {"name": "b", "size_bytes": 5})[0] == 400
    assert manager.ask("POST", "/v1/disks", {"name": str(path), "size_bytes": MIB})[0] == 409 and path.stat().st_size == 4 * MIB
    path.write_bytes(os.urandom(4 * MIB))
    manager.good("POST", "/v1/disks/resize", {"disk": "a", "size_bytes": 6 * MIB})
    status, refused = manager.ask("POST", "/v1/disks/resize", {"disk": "a", "size_bytes": MIB})
    assert status == 400 and "--shrink" in refused["error"]["message"] and path.stat().st_size == 6 * MIB
    made = manager.good("POST", "/v1/disks/convert", {"disk": "a", "new": "c", "to": "qcow2"})
    assert made["progress"]["total"] == 6 * MIB and made["progress"]["unit"] == "bytes" and disks(manager) == ["a.raw", "c.qcow2"]
    # The verb, with paths from where it is, by the manager and not.
    assert manager.lodge("disk", "convert", "c", "./back.raw", cwd=tmp_path) == f"{tmp_path}/./back.raw\n"
    assert (tmp_path / "back.raw").read_bytes() == path.read_bytes()
    assert manager.lodge("disk", "convert", "--local", "c", "./own.raw", cwd=tmp_path) == "./own.raw\n"
    manager.lodge("disk", "convert", "a", "c", status=125)
    manager.lodge("disk", "convert", "--force", "-q", "a", "c")
    kinds = [(one["kind"], one["status"]) for one in manager.good("GET", "/v1/operations")["operations"]]
    assert kinds.count(("disk-convert", "done")) == 3
    assert disks(manager) == ["a.raw", "c.qcow2"]


def go_on(manager):
    for pid in workers(manager):
        os.kill(pid, signal.SIGCONT)


# A worker that stands still when it has begun: there is no disk whose conversion surely lasts.
SLOW = """#!/bin/sh
if [ "$2" = convert ]; then
    echo half > "$4.$$.tmp"
    echo '{"progress": {"text": "converting", "done": 1048576, "total": 4194304}}'
    kill -STOP $$
fi
exec %s "$@"
"""


@pytest.mark.parametrize("how", ["cancelled", "killed", "goes on"])
def test_a_conversion_that_is_broken_off_leaves_nothing(manager, tmp_path, how):
    slow = tmp_path / "slow"
    slow.write_text(SLOW % (manager.bin / "lodge"))
    slow.chmod(0o755)
    manager.stop()
    manager.environment["LODGE_PROGRAM"] = str(slow)
    manager.start()
    manager.good("POST", "/v1/disks", {"name": "a", "size_bytes": 4 * MIB})
    number = manager.good("POST", "/v1/disks/convert?wait=0", {"disk": "a", "new": "b", "to": "raw"})["id"]
    until(lambda: get(manager, number)["progress"]["done"])
    assert get(manager, number)["progress"]["total"] == 4 * MIB and len(disks(manager)) == 2 and disks(manager)[1].startswith("b.raw.")
    (manager.home / "vdisks" / "b.raw.tmp").touch()  # somebody else's
    if how == "cancelled":
        assert manager.good("DELETE", f"/v1/operations/{number}")["error"] == "it was cancelled"
    elif how == "killed":
        manager.kill()
        manager.start()
        assert get(manager, number, 60)["error"] == "the manager ended"
    else:
        until(lambda: go_on(manager) or get(manager, number)["status"] == "done")  # it may be about to stand still only
        assert get(manager, number)["result"]["path"].endswith("/b.raw")
    assert disks(manager) == ["a.raw", *(["b.raw"] if how == "goes on" else []), "b.raw.tmp"] and workers(manager) == []
