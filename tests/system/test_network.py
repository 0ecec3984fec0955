# SPDX-License-Identifier: Apache-2.0
"""lodge network and --net NAME, in network namespaces of the test's own: a host, and an outside beyond it."""
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lodge_run import LIMIT, SANITIZED, Lodge, need_image, need_kernel
from network import Namespace
from patience import until
from processes import processes

WEB = f"web-{os.getpid()}"  # cgroups are named by it, for the whole machine
SERVE = "import socket; s = socket.create_server(('192.0.2.2', 7000)); print('up', flush=True)\nwhile 1: c, a = s.accept(); c.sendall((a[0] + '\\n').encode()); c.close()"


@pytest.fixture
def host(program, guest, tmp_path):
    """`lodge` inside a namespace that is the host: 192.0.2.1, with 192.0.2.2 outside."""
    if not shutil.which("nft"):
        pytest.skip("needs nft")
    need_image(guest, "busybox")
    with Namespace() as inside, Namespace() as outside:
        inside.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", outside.name)
        inside.ip("addr", "add", "192.0.2.1/24", "dev", "up0")
        inside.ip("link", "set", "up0", "up")
        outside.ip("addr", "add", "192.0.2.2/24", "dev", "up1")
        outside.ip("link", "set", "up1", "up")
        lodge = Lodge(program("lodge"), guest)
        lodge.env["LODGE_NETWORKS"] = str(tmp_path / "networks")
        lodge.inside, lodge.outside = inside, outside
        lodge.enter = ["nsenter", f"--net={inside.path}"]
        yield lodge
        lodge.assert_clean(30)


def lodge_in(host, *args, **kwargs):
    return subprocess.run([*host.enter, host.program, *args], env=host.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT, text=True, **kwargs)


def start_in(host, *args):
    return subprocess.Popen([*host.enter, host.program, *args], env=host.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)


def good(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def tables(host):
    return subprocess.run([*host.enter, "nft", "list", "tables"], stdout=subprocess.PIPE, check=True, text=True).stdout


def interfaces(host):
    done = subprocess.run([*host.enter, "ip", "-j", "link"], stdout=subprocess.PIPE, check=True)
    return {link["ifname"] for link in json.loads(done.stdout)} - {"lo", "up0"}


def test_the_life_of_a_network(host):
    subprocess.run([*host.enter, "nft", "-f", "-"], input="table inet theirs {\n chain c {\n counter\n }\n}\n", text=True, check=True)
    assert json.loads(good(lodge_in(host, "network", "ls", "--json"))) == []
    good(lodge_in(host, "network", "create", "a"))
    good(lodge_in(host, "network", "create", "b", "--subnet", "10.9.0.0/16", "--mtu", "9000", "--internal"))
    a, b = json.loads(good(lodge_in(host, "network", "inspect", "a", "b")))
    assert (b["subnet"], b["gateway"], b["mtu"], b["internal"]) == ("10.9.0.0/16", "10.9.0.1", 9000, True)
    assert a["subnet6"].startswith("fd") and interfaces(host) == {a["bridge"], b["bridge"]}
    for args, words in [(["create", "a"], "exists"), (["create", "c", "--subnet", "10.9.1.0/24"], "'b'"), (["create", "none"], "not free"),
                        (["create", "c", "--subnet", "192.0.2.0/24"], "up0"), (["rm", "nope"], "no network 'nope'"), (["inspect", "nope"], "nope")]:
        done = lodge_in(host, "network", *args)
        assert done.returncode == 125 and words in done.stderr, (args, done.stderr)
    good(lodge_in(host, "network", "rm", "a", "b"))
    assert tables(host).split("\n") == ["table inet theirs", ""] and interfaces(host) == set()


def test_guests_of_both_isolations_on_one_network(host, guest, program):
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    good(lodge_in(host, "network", "create", "net"))
    good(lodge_in(host, "network", "create", "other"))
    server = subprocess.Popen([*["nsenter", f"--net={host.outside.path}"], "python3", "-c", SERVE], stdout=subprocess.PIPE)
    web = start_in(host, "run", "--net", "net", "--name", WEB, "-p", "8080:80", "busybox", "sh", "-c",
                   "mkdir /w; echo hello >/w/index.html; echo ready; exec httpd -f -p 80 -h /w")
    try:
        assert web.stdout.readline() == "ready\n" and server.stdout.readline() == b"up\n"
        ask = f"ping -4 -qc 1 -W 20 {WEB} >/dev/null && ping -6 -qc 1 -W 20 {WEB} >/dev/null && wget -qO- http://{WEB}/ && nc 192.0.2.2 7000"
        # By name, IPv4 and IPv6, and out through the host's address: a container and a VM.
        assert good(lodge_in(host, "run", "--net", "net", "busybox", "sh", "-c", ask)) == "hello\n192.0.2.1\n"
        # The VM's root tries other addresses than its own: nothing comes of it.
        spoof = f"; ip addr add 10.88.0.77/24 dev eth0; ping -4 -I 10.88.0.77 -qc 1 -W 2 {WEB} >/dev/null && echo SPOOFED"
        assert good(lodge_in(host, "run", "--vm", "-q", "--net", "net", "busybox", "sh", "-c", ask + spoof + "; echo over")) == "hello\n192.0.2.1\nover\n"
        # Published: from outside, and from the host's own loopback.
        for place, url in [(host.outside, "192.0.2.1"), (host.inside, "127.0.0.1")]:
            code = f"import urllib.request; print(urllib.request.urlopen('http://{url}:8080/', timeout=20).read())"
            done = subprocess.run(["nsenter", f"--net={place.path}", "python3", "-c", code], stdout=subprocess.PIPE, check=True, timeout=LIMIT)
            assert b"hello" in done.stdout
        # Another network does not reach it, nor does anybody reach the host's loopback.
        address = json.loads(good(lodge_in(host, "network", "inspect", "net")))[0]["endpoints"][0]["ipv4"]
        closed = f"ping -qc 1 -W 2 {address} >/dev/null && echo REACHED; nslookup {WEB} >/dev/null 2>&1 && echo NAMED; echo over"
        assert good(lodge_in(host, "run", "--net", "other", "busybox", "sh", "-c", closed)) == "over\n"
        done = lodge_in(host, "run", "--net", "net", "-p", "8080:1", "busybox", "true")
        assert done.returncode == 125 and f"'{WEB}'" in done.stderr
        done = lodge_in(host, "network", "rm", "net")
        assert done.returncode == 125 and "in use" in done.stderr
    finally:
        server.kill()
        server.communicate()
        web.send_signal(signal.SIGTERM)
        web.communicate(timeout=LIMIT)
    good(lodge_in(host, "network", "rm", "net", "other"))
    assert tables(host) == "" and interfaces(host) == set()


def resolvers(host):
    """Pids and networks of the resolvers of this test's networks."""
    return {pid: words[3] for pid, words in processes(host.env["LODGE_NETWORKS"]) if words[1:3] == ["network", "resolve"]}


@pytest.mark.parametrize(("name", "subnet"), [("second", "10.88.0.0/24"), ("first", "10.88.0.0/24"), ("first", "10.9.0.0/24")])
def test_the_resolver_of_a_removed_network_makes_room(host, name, subnet):
    """One that is late to see that its network is gone holds the address of the next one for some time, but not for good; nor does it stay."""
    good(lodge_in(host, "network", "create", "first"))
    guest = start_in(host, "run", "--net", "first", "busybox", "sh", "-c", "echo up; sleep 1000")
    assert guest.stdout.readline() == "up\n"
    late = until(lambda: next(iter(resolvers(host)), None))
    os.kill(late, signal.SIGSTOP)
    try:
        guest.send_signal(signal.SIGTERM)
        guest.communicate(timeout=LIMIT)
        good(lodge_in(host, "network", "rm", "first"))
        good(lodge_in(host, "network", "create", name, "--subnet", subnet))
        web = start_in(host, "run", "--net", name, "--name", WEB, "busybox", "sh", "-c", "echo up; sleep 1000")
        try:
            assert web.stdout.readline() == "up\n"
            until(lambda: set(resolvers(host)) - {late})
            os.kill(late, signal.SIGCONT)
            asked = f"until nslookup {WEB}; do sleep 0.1; done | sed -n 's/^Address:.*\\(10[.].*[.]2\\)$/\\1/p'"
            assert good(lodge_in(host, "run", "--net", name, "busybox", "timeout", "60", "sh", "-c", asked)) == subnet.replace("0/24", "2\n")
            until(lambda: late not in resolvers(host))
            assert list(resolvers(host).values()) == [name]
        finally:
            web.send_signal(signal.SIGTERM)
            web.communicate(timeout=LIMIT)
    finally:
        os.kill(late, signal.SIGCONT) if late in resolvers(host) else None
    good(lodge_in(host, "network", "rm", name))
    until(lambda: not resolvers(host))


def test_what_was_killed_leaves_nothing(host):
    """Runs and verbs killed at any moment: addresses, interfaces and rules come back."""
    good(lodge_in(host, "network", "create", "net"))
    chance = random.Random(7)
    for _ in range(4 if SANITIZED else 12):
        victim = start_in(host, "run", "--net", "net", "busybox", "sleep", "1000")
        time.sleep(chance.random() * 0.3)
        victim.kill()
        victim.communicate(timeout=LIMIT)
    for i in range(12):
        victim = start_in(host, "network", "create", f"n{i}")
        time.sleep(chance.random() * 0.05)
        victim.kill()
        victim.communicate(timeout=LIMIT)
    # Any operation that may change something takes back what the dead left; inspecting alone does not.
    assert lodge_in(host, "network", "rm", "nope").returncode == 125
    until(lambda: json.loads(good(lodge_in(host, "network", "inspect", "net")))[0]["endpoints"] == [])
    # A run directory that was not finished yet is removed by a run of some time later, by design.
    for path in host.runtime.glob(".*"):
        shutil.rmtree(path)
    names = [network["name"] for network in json.loads(good(lodge_in(host, "network", "ls", "--json")))]
    assert "net" in names
    done = good(lodge_in(host, "run", "--net", "net", "busybox", "ip", "addr", "show", "eth0"))
    assert "10.88.0.2/24" in done
    good(lodge_in(host, "network", "rm", *names))
    assert tables(host) == "" and interfaces(host) == set()
    assert [path.name for path in Path(host.env["LODGE_NETWORKS"]).iterdir() if path.suffix == ".json"] == []
