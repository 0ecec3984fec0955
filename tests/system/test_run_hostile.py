# SPDX-License-Identifier: Apache-2.0
"""lodge run --vm against guests that break the agent protocol: each ends in a clear error, with nothing left, and no output is invented."""
import sys
from pathlib import Path

import pytest

from lodge_run import Lodge, need_image, need_kernel


@pytest.fixture
def lodge(program, guest, tmp_path):
    need_image(guest, "busybox")
    need_kernel(guest, "cloud")
    lodge = Lodge(program("lodge"), guest, ["--vm"])
    # By this interpreter, whatever `env python3` is.
    fake = tmp_path / "fake-vmm"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "fake_vmm.py"} "$@"\n')
    fake.chmod(0o755)
    lodge.env["LODGE_VMM"] = str(fake)
    yield lodge
    lodge.assert_clean()


@pytest.mark.parametrize("how, status, stdout, words", [
    ("silent", 125, b"", ["ended with status 3", "cannot go on", "console: last words.[31m"]),
    ("garbage", 125, b"", ["another protocol"]),
    ("huge-frame", 125, b"", ["not in the protocol"]),
    ("cut-info", 125, b"", ["not in the protocol"]),
    ("bad-status", 125, b"", ["not in the protocol"]),
    ("error", 126, b"", ["the fake says no"]),
    ("cut-output", 125, b"half", ["cut off"]),
    ("frame-in-output", 125, b"x", ["cut off"]),
    ("leaves", 125, b"", ["went away"]),
])
def test_broken_guest(lodge, how, status, stdout, words):
    done = lodge.run("-q", "busybox", "true", env=dict(lodge.env, LODGE_FAKE=how))
    assert (done.returncode, done.stdout) == (status, stdout), done.stderr
    for word in words:
        assert word in done.stderr.decode()


def test_strays_do_not_disturb(lodge):
    done = lodge.run("-q", "busybox", "true", env=dict(lodge.env, LODGE_FAKE="right"))
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out", b"err")
