# SPDX-License-Identifier: Apache-2.0
"""lodge volume: one volume for both isolations, quotas, and what is in use stays."""
import datetime
import json
import os
import time

import pytest

from lodge_run import Lodge, need_image, need_kernel, read_until


@pytest.fixture
def lodge(program, guest, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need_image(guest, "busybox")
    lodge = Lodge(program("lodge"), guest)
    lodge.env["LODGE_VOLUMES"] = str(tmp_path / "volumes")
    yield lodge
    lodge.assert_clean(30)


def good(done):
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_what_a_container_writes_a_vm_reads(lodge, guest, program):
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    good(lodge("volume", "create", "data"))
    good(lodge("run", "-v", "data:/data", "busybox", "sh", "-c", "echo from a container >/data/file"))
    assert good(lodge("run", "--vm", "-q", "-v", "data:/place", "busybox", "sh", "-c", "cat /place/file; echo from a VM >>/place/file")) \
        == "from a container\n"
    assert good(lodge("run", "-v", "data:/data:ro", "busybox", "sh", "-c", "cat /data/file; touch /data/x 2>/dev/null && echo WRITTEN; true")) \
        == "from a container\nfrom a VM\n"
    user = lodge.start("-i", "-v", "data:/data", "busybox", "sh", "-c", "echo ready; cat", stdin=-1)
    read_until(user.stdout, b"ready\n")
    done = lodge("volume", "rm", "data")
    assert done.returncode == 125 and b"in use" in done.stderr
    shown, = json.loads(good(lodge("volume", "inspect", "data")))
    assert shown["in_use"] and 0 <= time.time() - datetime.datetime.fromisoformat(shown["created"].replace("Z", "+00:00")).timestamp() < 3600
    user.kill()
    user.communicate()
    good(lodge("volume", "rm", "data"))
    done = lodge("run", "-v", "data:/data", "busybox", "true")
    assert done.returncode == 125 and b"lodge volume create data" in done.stderr
    assert json.loads(good(lodge("volume", "ls", "--json"))) == []


def test_a_volume_with_a_size_holds_no_more(lodge, guest, program):
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("needs loop devices")
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    good(lodge("volume", "create", "--size", "16M", "small"))
    if json.loads(good(lodge("volume", "inspect", "small")))[0]["limit"] != "image":
        pytest.skip("this file system has project quotas: test_volume_quota.py is about those")
    fill = "dd if=/dev/zero of=/v/big bs=1M count=64 2>/dev/null && echo ALL; rm /v/big; echo kept >>/v/file; cat /v/file; ls /v"
    assert good(lodge("run", "-v", "small:/v", "busybox", "sh", "-c", fill)) == "kept\nfile\n"
    assert good(lodge("run", "--vm", "-q", "-v", "small:/v", "busybox", "sh", "-c", fill)) == "kept\nkept\nfile\n"
    user = lodge.start("-i", "-v", "small:/v", "busybox", "sh", "-c", "echo ready; cat", stdin=-1)
    read_until(user.stdout, b"ready\n")
    done = lodge("run", "-v", "small:/v", "busybox", "true")
    assert done.returncode == 125 and b"one guest at a time" in done.stderr
    user.kill()
    user.wait()
    user.stdin.close()
    user.stdout.close()
    user.stderr.close()
    # A user that was killed: the next one waits until it is unmounted, and finds everything.
    assert good(lodge("run", "-v", "small:/v", "busybox", "cat", "/v/file")) == "kept\nkept\n"
    good(lodge("volume", "rm", "small"))


@pytest.mark.parametrize("args, words", [(["create", "a/b"], b"'a/b'"), (["create", "--size", "1K", "a"], b"4M"), (["rm", "none"], b"no volume 'none'")])
def test_wrong_ones_are_named(lodge, args, words):
    done = lodge("volume", *args)
    assert done.returncode == 125 and words in done.stderr
