# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's containers: one id mapped by themselves, or a range through newuidmap; no cgroup of their own."""
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import need_command
from patience import PATIENCE_S
from test_oci import rootfs  # noqa: F401 (a fixture)


class User:
    def __init__(self, program, rootfs, name):  # noqa: F811
        self.entry = pwd.getpwnam(name)
        self.setup = None  # what root does before, in a mount namespace of its own
        self.place = Path(tempfile.mkdtemp(prefix="lodge-user-"))
        shutil.copy(program, self.place / "runtime")
        (self.place / "runtime").chmod(0o755)
        shutil.copytree(rootfs, self.place / "rootfs", symlinks=True)
        for path in [self.place, *self.place.rglob("*")]:
            os.chown(path, self.entry.pw_uid, self.entry.pw_gid, follow_symlinks=False)
        self.verb("spec", "--rootless", "--bundle", self.place)
        self.config = json.loads((self.place / "config.json").read_text())
        self.config["process"]["terminal"] = False

    def write(self, *args):
        self.config["process"]["args"] = list(args)
        (self.place / "config.json").write_text(json.dumps(self.config))

    def call(self, *args, **options):
        environment = {"XDG_RUNTIME_DIR": str(self.place), "PATH": "/usr/bin:/bin"}
        environment |= {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}
        who = {"user": self.entry.pw_uid, "group": self.entry.pw_gid, "extra_groups": []}
        enter = []
        if self.setup:
            become = f'exec setpriv --reuid {self.entry.pw_uid} --regid {self.entry.pw_gid} --clear-groups "$@"'
            enter, who = ["unshare", "--mount", "sh", "-ec", f"{self.setup}; {become}", "sh"], {}
        return subprocess.run([*enter, self.place / "runtime", *map(str, args)], env=environment, text=True, timeout=PATIENCE_S,
                              **who, **({"capture_output": True} | options))

    def verb(self, *args, **options):
        done = self.call(*args, **options)
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout

    def run(self, *args):
        self.write(*args)
        return self.verb("run", "--bundle", self.place, "box")


def make(program, rootfs, name):  # noqa: F811
    if Path("/proc/sys/kernel/unprivileged_userns_clone").exists() and \
            Path("/proc/sys/kernel/unprivileged_userns_clone").read_text().strip() == "0":
        pytest.skip("the kernel gives ordinary users no user namespaces")
    return User(program("lodge-oci"), rootfs, name)


@pytest.fixture
def nobody(program, rootfs):  # noqa: F811
    user = make(program, rootfs, "nobody")
    yield user
    shutil.rmtree(user.place)


def test_a_single_id_is_root_inside(nobody):
    said = nobody.run("sh", "-c", "id; cat /proc/self/uid_map")
    assert said.startswith("uid=0 gid=0") and said.split()[-3:] == ["0", str(nobody.entry.pw_uid), "1"]
    assert json.loads(nobody.verb("list", "--format", "json")) == []


def test_life_and_exec(nobody):
    nobody.write("sleep", "100")
    quiet = {"capture_output": False, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    nobody.verb("run", "--detach", "--bundle", nobody.place, "box", **quiet)
    assert nobody.verb("exec", "box", "id").startswith("uid=0 gid=0")
    assert nobody.verb("exec", "box", "sh", "-c", "echo $$") != "1\n"
    nobody.verb("delete", "--force", "box")
    assert not (nobody.place / "lodge-oci" / "box").exists()


def test_limits_without_a_cgroup_are_said_not_to_hold(nobody):
    nobody.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    nobody.write("true")
    done = nobody.call("run", "--bundle", nobody.place, "box")
    assert done.returncode == 0 and "not in force" in done.stderr


def test_a_foreign_id_is_refused_with_the_reason(nobody):
    nobody.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    nobody.write("true")
    done = nobody.call("run", "--bundle", nobody.place, "box")
    assert done.returncode == 1 and ("/etc/subuid" in done.stderr or "not installed" in done.stderr)


FIRST, COUNT = 1 << 24, 65536


@pytest.mark.parametrize("granted", [True, False])
def test_a_range_through_newuidmap(nobody, tmp_path, granted):
    """The ranges are granted by files of the test's own, over those of the host; without a grant the refusal says where it belongs."""
    need_command("newuidmap")
    need_command("setpriv")
    lines = []
    for file in ("subuid", "subgid"):
        (tmp_path / file).write_text(f"nobody:{FIRST}:{COUNT}\n" if granted else "")
        (tmp_path / file).chmod(0o644)
        if not Path("/etc", file).exists():
            pytest.skip(f"no /etc/{file} to put the test's own over")
        lines.append(f"mount --bind {tmp_path / file} /etc/{file}")
    nobody.setup = "; ".join(lines)
    for kind, own in (("uidMappings", nobody.entry.pw_uid), ("gidMappings", nobody.entry.pw_gid)):
        nobody.config["linux"][kind] = [{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": FIRST, "size": COUNT - 1}]
    nobody.config["root"]["readonly"] = False
    for kept in ("bounding", "effective", "permitted"):
        nobody.config["process"]["capabilities"][kept].append("CAP_CHOWN")
    nobody.write("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; touch /of-five; chown 5:6 /of-five; stat -c %u:%g /of-five")
    done = nobody.call("run", "--bundle", nobody.place, "box")
    if not granted:
        assert done.returncode == 1 and "/etc/subuid" in done.stderr
        return
    assert done.returncode == 0, done
    ranges = [["0", str(own), "1", "1", str(FIRST), str(COUNT - 1)] for own in (nobody.entry.pw_uid, nobody.entry.pw_gid)]
    assert done.stdout.split() == [*ranges[0], *ranges[1], "5:6"]
    made = (nobody.place / "rootfs" / "of-five").stat()
    assert (made.st_uid, made.st_gid) == (FIRST + 4, FIRST + 5)
