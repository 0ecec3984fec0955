# SPDX-License-Identifier: Apache-2.0
"""An instance keeps the image it was made from: whatever becomes of its tag, through collections, and when the manager was killed."""
import subprocess

import pytest

from conftest import need_root
from manager import Manager


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
    manager.lodge("image", "rm", "app:1")
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
