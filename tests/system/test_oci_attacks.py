# SPDX-License-Identifier: Apache-2.0
"""Attacks on the container runtime: each is carried out against us, and must not get through. Programs that attack are in
attacks/. Every test also shows that its attack ran: one that never met the runtime proves nothing."""
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_command
from test_oci import Runtime, rootfs, runtime  # noqa: F401 (fixtures)

pytestmark = pytest.mark.sanitized
SOURCES = Path(__file__).parent / "attacks"


def compile_attack(name, place, *options):
    subprocess.run([need_command("gcc"), "-O1", *(options or ("-static",)), "-o", place, SOURCES / f"{name}.c"], check=True)


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


@pytest.fixture
def hostile(runtime, tmp_path):  # noqa: F811
    """A copy of the image that a test may spoil; the container uses it."""
    path = tmp_path / "hostile"
    shutil.copytree(runtime.rootfs, path, symlinks=True)
    runtime.config["root"] = {"path": str(path), "readonly": False}
    return path


class Running:
    """A container that runs `args` until the end of the block."""

    def __init__(self, runtime, *args, **options):
        self.runtime, self.options = runtime, options
        runtime.write(*args)

    def __enter__(self):
        with open(os.devnull, "r+") as null:
            options = {"stdin": null, "stdout": null, "stderr": null, **self.options}
            subprocess.run(self.runtime.command("run", "--detach", "--bundle", str(self.runtime.bundle), self.runtime.name),
                           check=True, timeout=20, **options)
        return self

    def exec(self, *args, options=(), **more):
        return subprocess.run(self.runtime.command("exec", *options, self.runtime.name, *args), text=True, capture_output=True,
                              timeout=20, **more)

    def __exit__(self, *_):
        subprocess.run(self.runtime.command("delete", "--force", self.runtime.name), check=True, timeout=20)
        self.runtime.nothing_left()


# --- the runtime's own file

def test_the_runtime_cannot_be_overwritten_by_a_loader(runtime, hostile, tmp_path):  # noqa: F811
    """CVE-2019-5736: the image's program is /proc/self/exe, and its dynamic loader writes to that file."""
    headers = subprocess.run(["readelf", "-l", runtime.program], text=True, capture_output=True).stdout
    loader = re.search(r"interpreter: (\S+)\]", headers)
    if not loader:
        pytest.skip("the runtime is a static program: an image cannot take its loader's place (the sanitizer build's can)")
    compile_attack("overwrite", hostile / "bin" / "overwrite", "-ffreestanding", "-fno-stack-protector", "-fPIE", "-nostdlib", "-static-pie")
    place = hostile / loader.group(1).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(hostile / "bin" / "overwrite", place)
    (hostile / "bin" / "attack").write_text("#!/proc/self/exe\n")
    (hostile / "bin" / "attack").chmod(0o755)
    before = Path(runtime.program).read_bytes()
    for program in ("/proc/self/exe", "/bin/attack"):
        # Detached: a runtime that waits would itself execute the file, and nobody could write to it for that reason.
        with open(tmp_path / "said", "w+b") as out, Running(runtime, program, stdout=out):
            until(lambda: (tmp_path / "said").read_text().count("\n") == 2)
        assert (tmp_path / "said").read_text() == "here\nrefused 30\n"  # EROFS
    assert Path(runtime.program).read_bytes() == before


class Scan(Running):
    """scan_exe as a container's first process: as a further one, its own runtime would stay and execute the file."""

    def __init__(self, runtime, image, *args):
        compile_attack("scan_exe", image / "bin" / "scan_exe")
        super().__init__(runtime, "sh", "-c", " ".join(("exec", "/bin/scan_exe", *args, ">/out")))
        self.out = image / "out"

    def result(self):
        """caught, denied, written; and all that it said."""
        pattern = re.compile(r"caught (\d+) denied (\d+) written (\d+)\n")
        until(lambda: pattern.search(self.out.read_text()))
        said = self.out.read_text()
        return *map(int, pattern.search(said).groups()), said


@pytest.mark.parametrize("shebang", [False, True])
def test_the_runtime_cannot_be_overwritten_while_it_runs_inside(runtime, hostile, shebang):  # noqa: F811
    """The same against a static runtime: it is made to run in the container, waiting for a FIFO, and its file is taken from
    /proc meanwhile."""
    if "LODGE_SANITIZED" in os.environ:
        pytest.skip("the sanitizer build needs libraries that the image has not")
    os.mkfifo(hostile / "fifo")
    (hostile / "bin" / "attack").write_text("#!/proc/self/exe --log=/fifo\n")
    (hostile / "bin" / "attack").chmod(0o755)
    before = Path(runtime.program).read_bytes()
    with Scan(runtime, hostile, "1500", "/fifo") as scan:
        scan.exec(*(["/bin/attack"] if shebang else ["/proc/self/exe", "--log=/fifo", "nosuchverb"]))
        caught, _, written, said = scan.result()
    assert caught > 0, said  # the file was in the attacker's hand
    assert written == 0 and "Read-only file system" in said
    assert Path(runtime.program).read_bytes() == before


def test_a_joining_process_cannot_be_looked_into(runtime, hostile):  # noqa: F811
    """Between joining the container and executing its program, exec is a process of the container with the runtime's file
    and descriptors."""
    with Scan(runtime, hostile, "2500") as scan:
        until = time.monotonic() + 2.2
        while time.monotonic() < until:
            assert scan.exec("true").returncode == 0
        caught, denied, written, said = scan.result()
    assert (caught, written) == (0, 0)
    assert denied > 0, said
