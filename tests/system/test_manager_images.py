# SPDX-License-Identifier: Apache-2.0
"""An instance keeps the image it was made from: whatever becomes of its tag, through collections, and when the manager was killed."""
import json
import shutil
import subprocess

import pytest

from conftest import need_root
from manager import Manager
from patience import until


@pytest.fixture
def manager(build, guest, tmp_path):
    need_root()
    rootfs = guest / "images" / "busybox" / "rootfs"
    if not rootfs.exists():
        pytest.skip("needs the busybox image (make guest)")
    home = tmp_path / "home"
    home.mkdir()
    m = Manager(build, home)
    m.home = home
    m.tars = {}
    for version in ("one", "two"):
        tree = tmp_path / version
        subprocess.run(["cp", "-a", rootfs, tree], check=True)
        (tree / "etc" / "version").write_text(version + "\n")
        m.tars[version] = tmp_path / f"{version}.tar"
        subprocess.run(["tar", "cf", m.tars[version], "-C", tree, "."], check=True)
    m.start()
    yield m
    m.close()


def test_images_of_instances_stay(manager):
    manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")
    manager.lodge("create", "--name", "old", "app:1", "cat", "/etc/version")
    manager.lodge("run", "-d", "--name", "runs", "app:1", "sleep", "1000")
    manager.lodge("image", "import", "-q", manager.tars["two"], "app:1")
    manager.lodge("create", "--name", "new", "app:1", "cat", "/etc/version")
    manager.lodge("image", "rm", "--force", "app:1")
    manager.lodge("image", "prune")
    pins = manager.home / "oci" / "pins"
    layers = manager.home / "oci" / "layers"
    assert len(list(pins.iterdir())) == 3 and len(list(layers.iterdir())) == 2
    manager.kill()
    manager.lodge("image", "prune")
    manager.start()
    for name, version in (("old", "one\n"), ("new", "two\n")):
        manager.lodge("start", name)
        manager.lodge("wait", name)
        assert manager.lodge("logs", name) == version
    assert manager.lodge("exec", "runs", "cat", "/etc/version") == "one\n"
    assert manager.lodge("create", "app:1", "true", status=125) == ""
    manager.lodge("rm", "new")
    manager.lodge("image", "prune")
    assert len(list(pins.iterdir())) == 2 and len(list(layers.iterdir())) == 1
    # What a crash between a pin and its instance leaves goes at the next start; another manager's pins do not.
    ours = next(pins.iterdir())
    (pins / (ours.name.rsplit("-", 1)[0] + "-0123456789ab")).write_text(ours.read_text())
    (pins / "lodged-0000000000000000-0123456789ab").write_text(ours.read_text())
    manager.kill()
    manager.start()
    assert len(list(pins.iterdir())) == 3
    manager.lodge("rm", "-f", "old", "runs")
    (pins / "lodged-0000000000000000-0123456789ab").unlink()
    assert list(pins.iterdir()) == []
    manager.lodge("image", "prune")
    assert list(layers.iterdir()) == []


def refused(manager, *arguments):
    """What the verb says; it must not do it."""
    done = subprocess.run([manager.bin / "lodge", "image", *arguments], env=manager.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125, done
    return done.stderr


def names(manager):
    return {image["name"]: image["used_by"] for image in json.loads(manager.lodge("image", "ls", "--json"))}


def test_a_name_in_use_stays(manager):
    manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")
    manager.lodge("image", "import", "-q", manager.tars["two"], "app:2")
    manager.lodge("image", "tag", "app:1", "also:1")
    manager.lodge("create", "--name", "old", "app:1", "true")
    manager.lodge("run", "-d", "--name", "runs", "app:2", "sleep", "1000")
    assert names(manager) == {"app:1": [], "also:1": [], "app:2": ["instance 'runs'"]}  # either name will do for what is an image's
    manager.lodge("image", "rm", "also:1")
    said = refused(manager, "rm", "app:1")
    assert "'app:1' is in use by instance 'old'" in said and "--force" in said
    status, answer = manager.ask("DELETE", "/v1/images?name=app:2")
    assert status == 409 and "instance 'runs'" in answer["error"]["message"]
    manager.lodge("rename", "old", "older")
    assert "instance 'older'" in refused(manager, "rm", "app:1")
    assert manager.good("POST", "/v1/images/prune", {"all": True})["result"]["kept"] == ["app:1", "app:2"]
    manager.lodge("image", "rm", "-f", "app:1", "nosuch")
    pruned = json.loads(manager.lodge("image", "prune", "--all", "--json", "--force"))
    assert pruned["removed"] == ["app:2"] and pruned["layers"] == 0
    manager.lodge("start", "older")
    manager.lodge("rm", "-f", "older", "runs")
    assert json.loads(manager.lodge("image", "prune", "--json"))["layers"] == 2


def test_who_asks_while_no_manager_runs_is_told_the_same(manager):
    manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")
    manager.lodge("create", "--name", "old", "app:1", "true")
    manager.stop()
    assert "instance 'old'" in refused(manager, "rm", "app:1")
    kept = manager.dir.rename(manager.dir.parent / (manager.dir.name + ".away"))  # a manager that is no more needs nothing
    manager.lodge("image", "rm", "app:1")
    shutil.rmtree(manager.dir, ignore_errors=True)
    kept.rename(manager.dir)
    manager.start()
    manager.lodge("start", "old")


def test_a_job_that_waits_keeps_the_name_of_its_image(manager):
    manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")
    manager.lodge("image", "tag", "app:1", "also:1")
    manager.lodge("job", "queue", "update", "default", "--hold")
    first = manager.lodge("job", "submit", "app:1", "cat", "/etc/version").strip()
    second = manager.lodge("job", "submit", "app:1", "true").strip()
    assert names(manager) == {"app:1": ["jobs that have not ended"], "also:1": []}
    manager.kill()
    assert "jobs that have not ended" in refused(manager, "rm", "app:1")
    manager.start()
    manager.lodge("job", "cancel", second)
    assert "jobs that have not ended" in refused(manager, "rm", "app:1")
    manager.lodge("job", "queue", "update", "default", "--release")
    manager.lodge("job", "wait", first)
    assert manager.lodge("job", "logs", first) == "one\n"
    until(lambda: names(manager)["app:1"] == [])
    manager.lodge("image", "rm", "app:1")


def test_an_image_that_was_taken_from_the_store_is_named(manager):
    manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")
    manager.lodge("create", "--name", "old", "app:1", "true")
    for folder, said in (("layers", "its layer"), ("blobs/sha256", "sha256")):
        for content in (manager.home / "oci" / folder).iterdir():
            shutil.rmtree(content) if content.is_dir() else content.unlink()
        done = subprocess.run([manager.bin / "lodge", "start", "old"], env=manager.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 125 and said in done.stderr and "import or pull" in done.stderr, done.stderr
        if folder == "layers":
            manager.lodge("image", "import", "-q", manager.tars["one"], "app:1")  # what is missing is made again
            manager.lodge("start", "old")
            manager.lodge("wait", "old")
