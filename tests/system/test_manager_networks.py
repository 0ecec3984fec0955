# SPDX-License-Identifier: Apache-2.0
"""Networks and volumes of the manager's instances, in a network namespace that is the host: joined at a start, given back at an end,
whoever is killed; names over UDP and TCP; ports on IPv4 and IPv6."""
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from conftest import need_root
from lodge_run import need_image, need_kernel
from manager import Manager
from patience import PATIENCE_S, until
from processes import processes
from network import Namespace
from test_vm import BASE, Console, initrd, logged
from test_vm_hotplug import PCI
from vmm import kernel

SERVE = "mkdir /w; echo $0 >/w/index.html; exec httpd -f -p 80 -h /w"


@pytest.fixture(scope="module")
def place(build, guest):
    """A manager inside a namespace (192.0.2.1, 2001:db8::1), with an outside beyond it."""
    need_root()
    if not shutil.which("nft"):
        pytest.skip("needs nft")
    need_image(guest, "busybox")
    with Namespace() as inside, Namespace() as outside:
        inside.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", outside.name)
        for place, name, number in ((inside, "up0", 1), (outside, "up1", 2)):
            place.ip("addr", "add", f"192.0.2.{number}/24", "dev", name)
            place.ip("addr", "add", f"2001:db8::{number}/64", "dev", name, "nodad")
            place.ip("link", "set", name, "up")
        m = Manager(build, guest, ["nsenter", f"--net={inside.path}"]).start()
        m.inside, m.outside = inside, outside
        yield m
        m.close()


@pytest.fixture
def host(place):
    """The manager, empty before each test and after it, however that ended."""
    if place.process.poll() is not None:
        place.start()
    yield place
    clear(place)


def clear(m):
    if m.process.poll() is not None:
        m.start()
    for instance in m.good("GET", "/v1/instances?all=1")["instances"]:
        m.good("DELETE", f"/v1/instances/{instance['id']}?force=1")
    for environment in m.good("GET", "/v1/environments")["environments"]:
        if environment["name"] != "default":
            m.good("DELETE", f"/v1/environments/{environment['name']}")
    for kind in ("networks", "volumes"):
        for thing in m.good("GET", f"/v1/{kind}")[kind]:
            m.good("DELETE", f"/v1/{kind}/{thing['name']}")
    assert interfaces(m) == set() and rules(m) == "" and mounts(m) == []


def mounts(m):
    """Places below the manager's runtime directory."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{m.dir}/run/")]


def interfaces(m):
    done = subprocess.run(["ip", "-n", m.inside.name, "-j", "link"], stdout=subprocess.PIPE, check=True)
    return {link["ifname"] for link in json.loads(done.stdout) if link["ifname"].startswith(("lgv-", "lgt-"))}


def rules(m):
    """Those that name a guest's port."""
    done = subprocess.run([*m.enter, "nft", "list", "ruleset"], stdout=subprocess.PIPE, check=True, text=True)
    return "".join(line for line in done.stdout.splitlines() if "lgv-" in line or "lgt-" in line or "dnat" in line.split("accept")[0] and "to" in line.split())


def endpoints(m, name):
    return {e["name"]: e["ipv4"] for e in m.good("GET", f"/v1/networks/{name}")["endpoints"]}


def fetch(place, url):
    code = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=10).read().decode(), end='')"
    done = subprocess.run(["nsenter", f"--net={place.path}", "python3", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60)
    return done.stdout


def shim_of(m, ref):
    words = f"/i/{m.inspect(ref)['id']}/"
    return next(pid for pid in m.shims() if words in open(f"/proc/{pid}/cmdline").read())


def resolvers(m):
    """Command lines of the processes that answer for names here."""
    return {pid: words[3] for pid, words in processes(str(m.dir)) if words[1:3] == ["network", "resolve"]}


def ask_tcp(address, name, kind):
    """One DNS question over TCP; the number of answers and the last one's address."""
    query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + bytes([len(name)]) + name.encode() + b"\0" + struct.pack(">HH", kind, 1)
    with socket.create_connection((address, 53), timeout=30) as s:
        s.sendall(struct.pack(">H", len(query)) + query[:5])
        s.sendall(query[5:])
        data = s.makefile("rb")
        reply = data.read(struct.unpack(">H", data.read(2))[0])
        # The connection stays, for one more.
        s.sendall(struct.pack(">H", len(query)) + query)
        assert data.read(struct.unpack(">H", data.read(2))[0]) == reply
    assert reply[:2] == query[:2]
    size = 4 if kind == 1 else 16
    return struct.unpack(">H", reply[6:8])[0], socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, reply[-size:])


def test_both_isolations_by_name_and_from_outside(host, guest, program):
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    m = host
    m.lodge("network", "create", "front")
    m.lodge("volume", "create", "data")
    m.lodge("run", "-d", "--name", "web", "--net", "front", "--ip", "10.88.0.9", "-p", "8080:80", "-v", "data:/data", "busybox", "sh", "-c",
            "echo from web >/data/file; " + SERVE, "web")
    m.lodge("run", "-d", "--vm", "--name", "box", "--net", "front", "-p", "9090:80", "-v", "data:/data:ro", "busybox", "sh", "-c",
            "cat /data/file; " + SERVE, "box")
    assert endpoints(m, "front") == {"web": "10.88.0.9", "box": "10.88.0.2"}
    until(lambda: m.lodge("run", "--rm", "--net", "front", "busybox", "sh", "-c", "wget -qO- http://box/; wget -qO- http://web/") == "box\nweb\n")
    until(lambda: m.lodge("logs", "box") == "from web\n")
    for url, words in (("http://192.0.2.1:8080/", "web\n"), ("http://192.0.2.1:9090/", "box\n"), ("http://[2001:db8::1]:8080/", "web\n"),
                       ("http://[2001:db8::1]:9090/", "box\n")):
        until(lambda: fetch(m.outside, url) == words)
    network = m.good("GET", "/v1/networks/front")
    six = {e["name"]: e["ipv6"] for e in network["endpoints"]}
    for gateway in (network["gateway"], network["gateway6"]):
        assert m.inside.call(lambda: ask_tcp(gateway, "web", 1)) == (1, "10.88.0.9")
        assert m.inside.call(lambda: ask_tcp(gateway, "box", 28)) == (1, six["box"])
    # What is in use stays, and who uses it is told; also by who does not run.
    m.lodge("stop", "-t", "0", "web")
    for what in (["network", "rm", "front"], ["volume", "rm", "data"]):
        done = subprocess.run([*m.enter, m.bin / "lodge", *what], env=m.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 125 and "in use by instance 'web'" in done.stderr
    assert json.loads(m.lodge("volume", "prune", "--json")) == []
    # Of one that is started again the address is kept, though others came meanwhile.
    m.lodge("run", "-d", "--name", "late", "--net", "front", "busybox", "sleep", "1000")
    assert endpoints(m, "front") == {"late": "10.88.0.3", "box": "10.88.0.2"}
    m.lodge("restart", "-t", "0", "box")
    m.lodge("start", "web")
    m.lodge("rename", "late", "later")
    assert endpoints(m, "front") == {"later": "10.88.0.3", "box": "10.88.0.2", "web": "10.88.0.9"}
    assert [e["network"] for e in m.inspect("web")["endpoints"]] == ["front"]
    m.lodge("rm", "-f", "web", "box", "later")
    assert interfaces(m) == set()
    m.lodge("network", "rm", "front")
    assert json.loads(m.lodge("volume", "prune", "--json")) == ["data"]


def test_connect_and_disconnect(host):
    m = host
    for name in ("one", "two"):
        m.lodge("network", "create", name)
    m.lodge("run", "-d", "--name", "both", "--net", "one", "busybox", "sleep", "1000")
    m.lodge("network", "connect", "--ip", m.good("GET", "/v1/networks/two")["gateway"][:-1] + "77", "two", "both")
    shown = m.lodge("exec", "both", "ip", "-4", "addr")
    assert "eth0" in shown and ".77/24" in shown and "eth1" in shown
    # Names of both networks, for who is on both; of one's own network only for who is not.
    m.lodge("run", "-d", "--name", "near", "--net", "one", "busybox", "sleep", "1000")
    m.lodge("run", "-d", "--name", "far", "--net", "two", "busybox", "sleep", "1000")
    asked = {}

    def is_known(name, network):
        asked[name] = m.lodge("exec", "both", "sh", "-c", f"cat /etc/resolv.conf; nslookup {name} 2>&1; ip -4 addr; true")
        return endpoints(m, network)[name] in asked[name]

    for name, network in (("near", "one"), ("far", "two")):
        until(lambda: is_known(name, network), told=lambda: f"{asked} {m.good('GET', '/v1/networks')} {resolvers(m)}")
    assert "NAMED" not in m.lodge("exec", "near", "sh", "-c", "nslookup far >/dev/null 2>&1 && echo NAMED; true")
    m.lodge("rm", "-f", "near", "far")
    for words, status in ((["connect", "two", "both"], 409), (["disconnect", "three", "both"], 404), (["connect", "two", "nosuch"], 404)):
        assert m.ask("POST", f"/v1/networks/{words[1]}/{words[0]}", {"instance": words[2]})[0] == status, words
    m.lodge("restart", "-t", "0", "both")
    assert sorted(e["network"] for e in m.inspect("both")["endpoints"]) == ["one", "two"]
    m.lodge("network", "disconnect", "one", "both")
    assert "eth0" not in m.lodge("exec", "both", "ip", "-4", "addr")
    m.lodge("restart", "-t", "0", "both")
    assert [e["network"] for e in m.inspect("both")["endpoints"]] == ["two"]
    m.lodge("rm", "-f", "both")
    m.lodge("network", "rm", "one", "two")


def test_an_address_goes_with_the_name(host):
    """Whoever is renamed keeps its address on each network, whether it runs or not; the old name has none any more."""
    m = host
    for name in ("one", "two"):
        m.lodge("network", "create", name)
    m.lodge("run", "-d", "--name", "first", "--net", "one", "busybox", "sleep", "1000")
    m.lodge("network", "connect", "two", "first")
    places = [endpoints(m, network)["first"] for network in ("one", "two")]
    m.lodge("stop", "-t", "0", "first")
    m.lodge("rename", "first", "second")
    # Whoever takes the old name now gets another address.
    m.lodge("run", "-d", "--name", "first", "--net", "one", "busybox", "sleep", "1000")
    other = endpoints(m, "one")["first"]
    m.lodge("start", "second")
    assert [endpoints(m, network)["second"] for network in ("one", "two")] == places and other not in places
    asked = lambda: m.lodge("exec", "first", "sh", "-c", "nslookup second 2>&1; true")
    until(lambda: places[0] in asked(), told=asked)
    # The name of a guest that is no instance is not to be had; and nothing is changed then.
    m.lodge("stop", "-t", "0", "second")
    with subprocess.Popen([*m.enter, m.bin / "lodge", "run", "-i", "--name", "guest", "--net", "one", "busybox", "cat"], env=m.environment,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        until(lambda: "guest" in endpoints(m, "one"))
        status, said = m.ask("PATCH", "/v1/instances/second", {"name": "guest"})
        assert status == 409 and "'guest' is on network 'one' already" in said["error"]["message"]
        guest.stdin.close()
        assert guest.wait(PATIENCE_S) == 0
    m.lodge("rename", "second", "third")
    m.lodge("start", "third")
    assert [endpoints(m, network)["third"] for network in ("one", "two")] == places
    m.lodge("rm", "-f", "first", "third")
    m.lodge("network", "rm", "one", "two")


def test_who_was_disconnected_leaves_nothing(host):
    """From its only network, while it runs: its namespace goes with it, and its address is free, also after a manager that was killed."""
    m = host
    m.lodge("network", "create", "town")
    for ends in (lambda: m.lodge("rm", "-f", "only"), lambda: (m.lodge("stop", "-t", "0", "only"), m.lodge("rm", "only")),
                 lambda: (m.kill(), m.start(), m.lodge("rm", "-f", "only"))):
        m.lodge("run", "-d", "--name", "only", "--net", "town", "busybox", "sleep", "1000")
        assert endpoints(m, "town") == {"only": "10.88.0.2"} and len(mounts(m)) == 1
        m.lodge("network", "connect", "town", "only", status=125)
        m.lodge("network", "disconnect", "town", "only")
        assert endpoints(m, "town") == {}
        ends()
        assert mounts(m) == [] and not list((m.dir / "run" / "i").iterdir())
        m.lodge("run", "--rm", "--name", "next", "--net", "town", "busybox", "true")
    # One that is back keeps its namespace; stopped, it gives back its address as well.
    m.lodge("run", "-d", "--name", "back", "--net", "town", "busybox", "sleep", "1000")
    m.lodge("network", "disconnect", "town", "back")
    m.lodge("network", "connect", "town", "back")
    assert "10.88.0.2/" in m.lodge("exec", "back", "ip", "-4", "addr") and len(mounts(m)) == 1
    m.lodge("stop", "-t", "0", "back")
    assert mounts(m) == []
    m.lodge("network", "disconnect", "town", "back")
    m.lodge("run", "-d", "--name", "heir", "--net", "town", "busybox", "sleep", "1000")
    assert endpoints(m, "town") == {"heir": "10.88.0.2"}
    m.lodge("rm", "-f", "back", "heir")
    m.lodge("network", "rm", "town")


def test_a_machine_of_parts_comes_and_goes_while_it_runs(host, guest, program, tmp_path):
    """Its interfaces are its own business inside; their places, addresses and names are the networks'."""
    vmlinuz = kernel(guest, "cloud")
    program("lodge-vmm")
    tree = next((vmlinuz.parent / "lib" / "modules").iterdir()) / "kernel"
    net = [str(path.relative_to(tree)) for name in ("failover", "net_failover", "virtio_net") for path in tree.rglob(f"{name}.ko")]
    m = host
    m.lodge("network", "create", "front")
    m.lodge("network", "create", "back-with-a-name-that-is-long")
    m.lodge("run", "-d", "--name", "web", "--net", "front", "busybox", "sh", "-c", SERVE, "web")
    m.lodge("vm", "create", "box", "--kernel", vmlinuz, "--initrd", initrd(tmp_path / "initrd", vmlinuz, (*BASE, *PCI, *net)), "--cmdline", "console=ttyS0 quiet",
            "--engine", "soft", "--memory", "128M")
    m.lodge("network", "connect", "back-with-a-name-that-is-long", "box")
    m.lodge("vm", "start", "box")
    logged(m, "box", "the guest is up")
    assert set(endpoints(m, "back-with-a-name-that-is-long")) == {"box"}
    wanted = m.good("GET", "/v1/networks/front")["gateway"].rsplit(".", 1)[0] + ".77"
    web = endpoints(m, "front")["web"]
    with Console(m, "box") as console:
        console.begin()
        for _ in range(2):
            m.lodge("network", "connect", "--ip", wanted, "front", "box")
            assert endpoints(m, "front") == {"web": web, "box": wanted}
            # Announced, because it is another interface than a moment ago: neighbours believe nothing else within a second.
            console.run(f"ip addr add {wanted}/24 dev eth1; ip link set eth1 up; arping -U -c 1 -I eth1 {wanted}; wget -qO- http://{web}/; echo asked=$((1 + 1))", "asked=2")
            assert "\nweb" in console.output.replace("\r", ""), console.output
            until(lambda: "1 packets received" in m.lodge("exec", "web", "sh", "-c", "ping -4 -c 1 -w 10 box; true"))
            m.kill()
            m.start()
            assert sorted(e["network"] for e in m.inspect("box")["endpoints"]) == ["back-with-a-name-that-is-long", "front"]
            assert m.ask("POST", "/v1/networks/front/connect", {"instance": "box"})[0] == 409
            m.lodge("network", "disconnect", "front", "box")
            assert endpoints(m, "front") == {"web": web}
            console.run("ls /sys/class/net; echo left=$((3 + 3))", "left=6")
            assert "eth0" in console.output and "eth1" not in console.output.split("left=6")[0].split("\n", 1)[1]
        console.leave()
    status, said = m.ask("POST", "/v1/networks/back-with-a-name-that-is-long/disconnect", {"instance": "box"})
    assert status == 409 and "was there when the machine started" in said["error"]["message"]
    m.lodge("network", "connect", "front", "box")
    m.lodge("vm", "stop", "--force", "box")
    assert endpoints(m, "front") == {"web": web} and len(interfaces(m)) == 1
    assert m.ask("DELETE", "/v1/networks/back-with-a-name-that-is-long")[0] == 409
    m.lodge("vm", "start", "box")  # both are there from the beginning now
    assert "box" in endpoints(m, "front") and len(m.inspect("box")["endpoints"]) == 2
    m.lodge("vm", "stop", "--force", "box")
    m.lodge("network", "disconnect", "back-with-a-name-that-is-long", "box")
    assert m.ask("POST", "/v1/networks/back-with-a-name-that-is-long/disconnect", {"instance": "box"})[0] == 404
    assert m.ask("POST", "/v1/networks/nosuch/connect", {"instance": "box"})[0] == 404
    m.lodge("vm", "delete", "box")
    m.lodge("rm", "-f", "web")
    m.lodge("network", "rm", "front", "back-with-a-name-that-is-long")


def test_who_answers_for_names_is_in_no_guests_cgroup(host, guest, program):
    """Started for a machine that is the first on its network, and on after its end for who came later; nothing is left of the machine."""
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    m = host
    m.lodge("network", "create", "net")
    m.lodge("run", "-d", "--vm", "--name", "first", "--net", "net", "busybox", "sleep", "1000")
    identifier = m.inspect("first")["id"]
    until(lambda: len(resolvers(m)) == 1)  # one that finds another at it is gone at once
    pid, = resolvers(m)
    assert identifier not in Path(f"/proc/{pid}/cgroup").read_text()
    m.lodge("run", "-d", "--name", "later", "--net", "net", "busybox", "sleep", "1000")
    m.lodge("rm", "-f", "first")
    until(lambda: list(resolvers(m)) == [pid])
    until(lambda: endpoints(m, "net")["later"] in m.lodge("exec", "later", "sh", "-c", "nslookup later 2>&1; true"))
    until(lambda: not any(identifier in names for _, names, _ in os.walk("/sys/fs/cgroup")))
    m.lodge("rm", "-f", "later")
    until(lambda: not resolvers(m))


def test_who_answers_for_names_is_started_again(host):
    """Killed, by a manager that started it and by one that found it there; again and again, but not without end when it never lasts."""
    m = host
    m.lodge("network", "create", "net")
    m.lodge("run", "-d", "--name", "one", "--net", "net", "busybox", "sleep", "1000")
    asked = lambda: m.lodge("exec", "one", "sh", "-c", "nslookup one 2>&1; true")
    is_known = lambda: endpoints(m, "net")["one"] in asked()
    until(is_known)
    for restarted in (False, True):
        pid, = until(lambda: len(resolvers(m)) == 1 and resolvers(m))
        if restarted:
            m.kill()
            m.start()
        os.kill(pid, signal.SIGKILL)
        until(lambda: resolvers(m) and pid not in resolvers(m))
        until(is_known, told=asked)
    # One that cannot last is tried less and less often.
    started = []

    def kill_next():
        for pid in resolvers(m):  # two, for the moment in which one goes to the background
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if not started or time.monotonic() > started[-1] + 0.5:
                started.append(time.monotonic())
        return len(started) >= 4

    until(kill_next)
    assert started[3] - started[1] > 3, started
    m.lodge("rm", "-f", "one")
    until(lambda: not resolvers(m))
    m.lodge("run", "--rm", "--net", "net", "busybox", "true")
    until(lambda: not resolvers(m))


def test_the_network_of_an_environment(host, guest):
    """Who says nothing of a network is on its environment's, in both isolations; who says one, or none, is where it says."""
    m = host
    for name in ("shared", "other"):
        m.lodge("network", "create", name)
    for path, body in (("POST", "/v1/environments"), {"name": "team", "network": "nosuch"}), (("PATCH", "/v1/environments/default"), {"network": "nosuch"}):
        status, answer = m.ask(*path, body)
        assert status == 404 and "no network 'nosuch'; `lodge network create nosuch` makes it" in answer["error"]["message"]
    m.lodge("env", "create", "team", "--net", "user")
    m.lodge("env", "update", "team", "--net", "shared")
    # It is the environment's also while nobody is in it.
    status, answer = m.ask("DELETE", "/v1/networks/shared")
    assert status == 409 and "environment 'team'" in answer["error"]["message"]
    sleeper = ["busybox", "sleep", "1000"]
    m.lodge("run", "-d", "--in", "team", "--name", "plain", *sleeper)
    m.lodge("run", "-d", "--in", "team", "--name", "says", "--net", "other", *sleeper)
    m.lodge("run", "-d", "--name", "outside", *sleeper)
    names = ["plain"]
    if (guest / "kernels").exists():
        m.lodge("run", "-d", "--vm", "--in", "team", "--name", "machine", *sleeper)
        names.append("machine")
    assert set(endpoints(m, "shared")) == set(names) and set(endpoints(m, "other")) == {"says"}
    assert "endpoints" not in m.inspect("outside")
    assert f"inet {endpoints(m, 'shared')['plain']}/" in m.lodge("exec", "plain", "ip", "-4", "addr")
    m.lodge("rm", "-f", "says", "outside", *names)
    m.lodge("env", "rm", "team")
    m.lodge("network", "rm", "shared", "other")


def test_bad_specifications_are_refused(host):
    m = host
    m.lodge("network", "create", "real")
    for members, status in (({"network": "nosuch"}, 404), ({"network": "no such"}, 400), ({"network": "real", "ports": ["80"]}, 400), ({"ports": ["80:80"]}, 400),
                            ({"network": "real", "ip": "x"}, 400), ({"ip": "10.0.0.1"}, 400), ({"network": "real", "networks": ["real"]}, 400),
                            ({"network": "real", "networks": ["none"]}, 400), ({"network": "real", "ports": ["1:1"] * 33}, 400),
                            ({"volumes": [{"source": "nosuch", "target": "/v"}]}, 404), ({"volumes": [{"source": "a/b", "target": "/v"}]}, 400)):
        got, answer = m.ask("POST", "/v1/instances", {"image": "busybox", "command": ["true"], **members})
        assert got == status, (members, got, answer)
    # Known only at the start: refused there, and nothing is left.
    for ip, words in (("10.88.99.9", "not of network"), ("10.88.0.1", "not for guests"), ("10.88.0.255", "not for guests")):
        made = m.create("true", network="real", ip=ip)
        got, answer = m.ask("POST", f"/v1/instances/{made}/start")
        assert got == 400 and words in answer["error"]["message"], answer
        m.good("DELETE", f"/v1/instances/{made}")
    assert endpoints(m, "real") == {} and interfaces(m) == set()
    m.lodge("network", "rm", "real")


def listener(kind, family, address):
    s = socket.socket(family, kind)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s


@pytest.mark.parametrize("isolation", [(), ("--vm",)])
def test_a_port_that_somebody_has_is_not_taken_from_him(host, guest, program, isolation):
    """A listener of the host's would lose its clients to the guest; and of a machine's failed start, too, the reason is told."""
    if isolation:
        need_kernel(guest, "cloud")
        program("lodge-vmm")
    m = host

    def refused(*words):
        done = subprocess.run([*m.enter, m.bin / "lodge", "run", "-d", "--name", "late", *isolation, "--net", "real", *words, "busybox", "sleep", "1000"],
                              env=m.environment, capture_output=True, text=True, timeout=120)
        said = m.inspect("late")["error"]
        m.lodge("rm", "-f", "late")
        assert done.returncode == 125 and said and done.stderr.endswith(f"lodge: error: {said}\n"), (done, said)
        return said

    m.lodge("network", "create", "real")
    for kind, family, address, form in ((socket.SOCK_STREAM, socket.AF_INET, "0.0.0.0", "{}:80"), (socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1", "127.0.0.1:{}:80"),
                                        (socket.SOCK_DGRAM, socket.AF_INET, "192.0.2.1", "{}:80/udp"), (socket.SOCK_STREAM, socket.AF_INET6, "::", "{}:80"),
                                        (socket.SOCK_STREAM, socket.AF_INET6, "2001:db8::1", "[2001:db8::1]:{}:80")):
        with m.inside.call(lambda: listener(kind, family, address)) as s:
            assert "a program of this host listens" in refused("-p", form.format(s.getsockname()[1]))
    with m.inside.call(lambda: listener(socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1")) as s:
        port = s.getsockname()[1]
        # What it has elsewhere is no hindrance, and neither is the same number of the other protocol.
        m.lodge("run", "-d", "--name", "first", "--net", "real", "-p", f"192.0.2.1:{port}:80", "-p", f"{port}:80/udp", "busybox", "sleep", "1000")
    assert refused("-p", f"{port}:80") == f"port {port} of this host leads to 'first'"
    m.lodge("rm", "-f", "first")
    m.lodge("network", "rm", "real")


def test_whoever_is_killed_nothing_is_left(host, guest, program):
    """The manager, shims and a VM's monitor by kill -9: what runs goes on, what ended gives back its place."""
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    m = host
    m.lodge("network", "create", "net")
    m.lodge("volume", "create", "--size", "8M", "small")
    m.lodge("run", "-d", "--name", "a", "--net", "net", "-p", "8080:80", "-v", "small:/small", "busybox", "sh", "-c", SERVE, "a")
    m.lodge("run", "-d", "--vm", "--name", "b", "--net", "net", "busybox", "sleep", "1000")
    before = endpoints(m, "net")
    m.kill()
    m.start()
    assert endpoints(m, "net") == before and len(interfaces(m)) == 2
    until(lambda: fetch(m.outside, "http://192.0.2.1:8080/") == "a\n")
    # With no manager there, the resolver takes back what the dead left.
    monitor = next(int(p) for p in os.listdir("/proc") if p.isdigit() and is_monitor(p, m))
    m.kill()
    os.kill(monitor, signal.SIGKILL)
    until(lambda: len(interfaces(m)) == 1)
    m.start()
    until(lambda: m.inspect("b")["state"] == "exited")
    os.kill(shim_of(m, "a"), signal.SIGKILL)
    until(lambda: m.inspect("a")["state"] == "exited" and not interfaces(m) and not rules(m))
    assert endpoints(m, "net") == {}
    # Held by nobody any more: it may be mounted again.
    m.lodge("start", "a")
    assert endpoints(m, "net") == {"a": before["a"]}
    m.lodge("rm", "-f", "a", "b")
    assert str(m.dir) not in open("/proc/mounts").read()
    m.lodge("volume", "rm", "small")
    m.lodge("network", "rm", "net")


def test_a_volume_with_a_size_is_a_disk_of_a_vm(host, guest, program):
    """Mounted by the guest itself, for one at a time, sound again after whatever end; both isolations read what the other wrote."""
    need_kernel(guest, "cloud")
    program("lodge-vmm")
    m = host
    m.lodge("volume", "create", "--size", "16M", "solid")
    m.lodge("run", "-d", "--vm", "--name", "disk", "-v", "solid:/a b/s", "busybox", "sh", "-c",
            "cd '/a b/s'; ls; grep b/s /proc/mounts; dd if=/dev/zero of=big bs=1M count=64 2>/dev/null && echo ALL; rm -f big; echo one >>file; sync; "
            "echo done; exec sleep 1000")
    until(lambda: "done\n" in m.lodge("logs", "disk"))
    shown = m.lodge("logs", "disk")
    assert shown.startswith("/dev/vd") and " ext4 rw,nosuid,nodev" in shown and "ALL" not in shown and shown.count("\n") == 2
    for words in ((), ("--vm",)):
        done = subprocess.run([*m.enter, m.bin / "lodge", "run", *words, "--rm", "-v", "solid:/s", "busybox", "true"], env=m.environment,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode and "'solid' is in use by disk" in done.stderr, done
    monitor = next(int(p) for p in os.listdir("/proc") if p.isdigit() and is_monitor(p, m))
    os.kill(monitor, signal.SIGKILL)
    until(lambda: m.inspect("disk")["state"] == "exited")
    read = "cat /s/file; touch /s/new 2>/dev/null && echo WRITTEN; true"
    assert m.lodge("run", "--vm", "-v", "solid:/s:ro", "busybox", "sh", "-c", read) == "one\n"
    m.lodge("start", "disk")
    until(lambda: m.lodge("logs", "disk").count("done\n") == 2)
    m.lodge("stop", "-t", "1", "disk")
    assert m.lodge("run", "--rm", "-v", "solid:/s", "busybox", "sh", "-c", "ls /s; cat /s/file").split() == ["file", "one", "one"]
    m.lodge("rm", "-f", "disk")
    m.lodge("volume", "rm", "solid")


def is_monitor(pid, m):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split("\0")
    except OSError:
        return False
    return words[0].endswith("lodge-vmm") and str(m.dir) in " ".join(words)
