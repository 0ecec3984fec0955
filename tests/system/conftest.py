# SPDX-License-Identifier: Apache-2.0
"""What every system test shares: where the programs are, and what is skipped where something is missing."""
import os
import shutil
from pathlib import Path

import pytest

from manager import Manager

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def build() -> Path:
    return Path(os.environ.get("LODGE_BUILD", ROOT / "build")).resolve()


@pytest.fixture(scope="session")
def guest(build) -> Path:
    """Kernels and images, made by `make guest`."""
    return Path(os.environ.get("LODGE_GUEST", build / "guest"))


@pytest.fixture(scope="session")
def program(build):
    """program("lodge-vmm") -> its path; skips when it is not built."""

    def find(name: str) -> str:
        path = build / "bin" / name
        if not path.exists():
            pytest.skip(f"{name} is not built")
        return str(path)

    return find


def need_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


def need_command(name: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"needs the command {name}")
    return path


def skip_when_sanitized():
    """For what the sanitizers make very slow, and what the same code, tested otherwise, shows them as well."""
    if "LODGE_SANITIZED" in os.environ:
        pytest.skip("takes too long under the sanitizer; the plain build runs it")


@pytest.fixture
def plain_build():
    skip_when_sanitized()


@pytest.fixture
def main_kernel(request):
    """Under the sanitizers one kernel stands for the three that Debian has."""
    if request.getfixturevalue("name") != "cloud":
        skip_when_sanitized()


@pytest.fixture(scope="module")
def home(guest, tmp_path_factory):
    """A store of a test's own, with the kernels and images of all: for what makes or removes disks."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("kernels", "images"):
        (folder / name).symlink_to(guest / name)
    (folder / "vdisks").mkdir()
    return folder


def manager_of_test(build, guest):
    """A fixture's function: a manager with the images at hand, taken away with all it has."""
    need_root()
    if not (guest / "images" / "busybox").exists():
        pytest.skip("needs the busybox image (make guest)")
    m = Manager(build, guest).start()
    yield m
    m.close()
