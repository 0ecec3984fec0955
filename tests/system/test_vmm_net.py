# SPDX-License-Identifier: Apache-2.0
"""The network device with a real kernel: through a tap interface, and through the user-mode stack."""
import hashlib
import os
import socket
import subprocess
import threading

import pytest

from network import Namespace, free_port, listen, network_initrd, receive_all, start_guest
from patience import PATIENCE_S, until

SHELL = "exec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'\n"
TAP_UP = "ifconfig eth0 10.77.0.2 netmask 255.255.255.0 up\n"
DHCP = ("mkdir -p /etc\nprintf '#!/bin/sh\\n[ $1 = bound ] && ifconfig $interface $ip netmask $subnet && route add default gw $router"
        " && echo lease $ip dns $dns\\n' > /lease\nchmod 755 /lease\nifconfig eth0 up\nudhcpc -i eth0 -s /lease -q -n\n")
BYTES = 24 << 20


@pytest.fixture(scope="module")
def initrd(tmp_path_factory, guest):
    directory = tmp_path_factory.mktemp("net")

    def make(script: str, name: str = "cloud", extra=None):
        key = hashlib.sha256((script + name).encode()).hexdigest()[:12]
        path = directory / key
        return path if path.exists() else network_initrd(path, guest, name, script + "echo network is up\n" + SHELL, extra)

    return make


@pytest.fixture
def vmm(program):
    return program("lodge-vmm")


def answer(vm, command: str, seconds: float = 90) -> str:
    """The output of a shell command in the guest."""
    answer.count += 1
    vm.output = ""
    vm.send(f"{command}; echo \"end\"-{answer.count}\n")
    vm.expect(f"end-{answer.count}", seconds)
    return vm.output


answer.count = 0


def serve(server: socket.socket, data: bytes | None, result: list):
    """One connection: sends `data`, or collects what comes."""

    def run():
        connection, _ = server.accept()
        with connection:
            if data is None:
                result.append(receive_all(connection))
            else:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(120)
                connection.recv(1)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def transfers(vm, server: socket.socket, address: str, nbytes: int = BYTES):
    """Both ways, hashes compared."""
    port = server.getsockname()[1]
    data = os.urandom(nbytes)
    thread = serve(server, data, [])
    text = answer(vm, f"nc {address} {port} </dev/null | sha256sum", 120)
    thread.join(60)
    assert hashlib.sha256(data).hexdigest() in text
    result: list = []
    thread = serve(server, None, result)
    text = answer(vm, f"dd if=/dev/urandom of=/data bs=1M count={nbytes >> 20} 2>/dev/null; sha256sum /data; "
                  f"nc -w 20 {address} {port} </data", 120)
    thread.join(60)
    assert len(result[0]) == nbytes and hashlib.sha256(result[0]).hexdigest() in text


@pytest.mark.parametrize("name", ["cloud", "generic", "rt"])
@pytest.mark.usefixtures("main_kernel")
def test_tap(vmm, guest, initrd, name):
    with Namespace() as space:
        space.tap("tap0", "10.77.0.1/24")
        server = space.listen("10.77.0.1", 7000)
        with start_guest(vmm, guest, initrd(TAP_UP, name), "--net", "tap=tap0,mac=02:00:00:00:00:07", name=name, namespace=space) as vm:
            vm.expect("network is up")
            assert "HWaddr 02:00:00:00:00:07" in answer(vm, "ifconfig eth0")
            assert "3 packets transmitted, 3 packets received" in answer(vm, "ping -c 3 10.77.0.1")
            transfers(vm, server, "10.77.0.1")
            text = answer(vm, "ifconfig eth0")
            assert "errors:0" in text and "RX packets:" in text
            vm.send("poweroff -f\n")
            assert vm.wait() == 0


def test_the_host_connects_to_the_guest(vmm, guest, initrd):
    with Namespace() as space:
        space.tap("tap0", "10.77.0.1/24")
        with start_guest(vmm, guest, initrd(TAP_UP), "--net", "tap=tap0", "--cpus", "2", namespace=space) as vm:
            vm.expect("network is up")
            vm.send("mkdir /www; echo hello from the guest > /www/index.html; httpd -h /www; echo ser''ves\n")
            vm.expect("serves\r\n", 60)
            for _ in range(3):
                with space.call(lambda: socket.create_connection(("10.77.0.2", 80), timeout=PATIENCE_S)) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    assert b"hello from the guest" in receive_all(connection)


def test_the_interface_is_taken_away(vmm, guest, initrd):
    with Namespace() as space:
        space.tap("tap0", "10.77.0.1/24")
        with start_guest(vmm, guest, initrd(TAP_UP), "--net", "tap=tap0", namespace=space) as vm:
            vm.expect("network is up")
            assert "1" in answer(vm, "cat /sys/class/net/eth0/carrier").split()
            space.ip("link", "del", "tap0")
            until(lambda: "0" in answer(vm, "cat /sys/class/net/eth0/carrier").split())
            answer(vm, "ping -c 1 -W 1 10.77.0.1")
            vm.send("poweroff -f\n")
            assert vm.wait() == 0


def test_two_guests_on_one_bridge(vmm, guest, initrd):
    with Namespace() as space:
        space.ip("link", "add", "br0", "type", "bridge")
        space.ip("link", "set", "br0", "up")
        for tap in ("tap0", "tap1"):
            space.tap(tap)
            space.ip("link", "set", tap, "master", "br0")
        script = "ifconfig eth0 10.77.0.$(sed 's/.*guest=\\([0-9]*\\).*/\\1/' /proc/cmdline) netmask 255.255.255.0 up\n"
        image = initrd(script)

        def start(number):
            return start_guest(vmm, guest, image, "--net", f"tap=tap{number}", "--cmdline",
                               f"console=ttyS0 quiet panic=-1 guest={number + 1}", namespace=space)

        with start(0) as one, start(1) as two:
            one.expect("network is up")
            two.expect("network is up")
            assert "3 packets received" in answer(one, "ping -c 3 10.77.0.2")
            two.send("(until grep -q ':0009 ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 0.1; done; echo list''ens) & "
                     "nc -l -p 9 > /got; sha256sum /got; echo who''le\n")
            two.expect("listens\r\n")
            text = answer(one, "dd if=/dev/urandom of=/data bs=1M count=16 2>/dev/null; sha256sum /data; nc -w 20 10.77.0.2 9 </data", 120)
            digest = next(word for word in text.split() if len(word) == 64 and word.isalnum())
            two.expect("whole\r\n", 60)
            assert digest in two.output


def test_a_guest_cannot_send_as_another(vmm, guest, initrd):
    """The frames' source is held to the device's address; filter=off lets it pass."""
    for option, passes in (("", False), (",filter=off", True)):
        with Namespace() as space:
            space.tap("tap0", "10.77.0.1/24")
            with start_guest(vmm, guest, initrd(TAP_UP), "--net", f"tap=tap0,mac=02:00:00:00:00:07{option}", namespace=space) as vm:
                vm.expect("network is up")
                answer(vm, "ifconfig eth0 down; ifconfig eth0 hw ether 02:00:00:00:00:99; ifconfig eth0 up")
                text = answer(vm, "ping -c 2 -W 2 10.77.0.1")
                assert ("2 packets received" in text) == passes, text


def user_guest(vmm, guest, initrd, *options, **more):
    return start_guest(vmm, guest, initrd(DHCP), "--net", ",".join(["user", *options]), **more)


def test_user_mode_stack(vmm, guest, initrd):
    server = listen("127.0.0.1")
    with user_guest(vmm, guest, initrd, "host-loopback=on") as vm:
        vm.expect("network is up")
        assert "lease 10.0.2.15" in vm.output
        assert "3 packets received" in answer(vm, "ping -c 3 10.0.2.2")
        transfers(vm, server, "10.0.2.2")
        assert "errors:0" in answer(vm, "ifconfig eth0")
        vm.send("poweroff -f\n")
        assert vm.wait() == 0


def test_user_mode_stack_keeps_the_hosts_loopback_to_itself(vmm, guest, initrd):
    server = listen("127.0.0.1")
    port = server.getsockname()[1]
    server.settimeout(0.2)
    with user_guest(vmm, guest, initrd) as vm:
        vm.expect("network is up")
        answer(vm, f"nc -w 2 10.0.2.2 {port} </dev/null")
        answer(vm, "route add -host 127.0.0.1 gw 10.0.2.2; ifconfig lo down; ip route add 127.0.0.0/8 via 10.0.2.2")
        answer(vm, f"echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; nc -w 2 127.0.0.1 {port} </dev/null")
        with pytest.raises(socket.timeout):
            server.accept()


def test_user_mode_stack_forwards_ports(vmm, guest, initrd):
    port, udp = free_port(), free_port()
    with user_guest(vmm, guest, initrd, f"hostfwd=tcp:127.0.0.1:{port}-:80", f"hostfwd=udp::{udp}-:53") as vm:
        vm.expect("network is up")
        vm.send("mkdir /www; dd if=/dev/urandom of=/www/data bs=1M count=8 2>/dev/null; sha256sum /www/data; httpd -h /www; echo ser''ves\n")
        vm.expect("serves\r\n", 60)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /data HTTP/1.0\r\n\r\n")
            body = receive_all(connection).split(b"\r\n\r\n", 1)[1]
        assert len(body) == 8 << 20 and hashlib.sha256(body).hexdigest() in vm.output
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(3):
                sender.sendto(b"a datagram\n", ("127.0.0.1", udp))

        def for_no_port():
            """What the guest counts of datagrams for which nobody listens."""
            return int([line.split() for line in answer(vm, "grep Udp: /proc/net/snmp").splitlines() if line.startswith("Udp:")][1][2])

        until(lambda: for_no_port() >= 3)


def test_a_port_that_is_taken_is_named(vmm, guest, initrd):
    with listen("127.0.0.1") as server:
        port = server.getsockname()[1]
        with user_guest(vmm, guest, initrd, f"hostfwd=tcp:127.0.0.1:{port}-:80") as vm:
            assert vm.wait() == 2
            assert f"forward TCP port {port}" in vm.output


@pytest.mark.parametrize("text, message", [
    ("tap", "'tap=NAME' or 'user' is needed"), ("tap=", "needs the name"), ("user,mac=01:00:00:00:00:01", "a group"),
    ("user,hostfwd=tcp:1:2", "is no forward"), ("tap=x,hostfwd=tcp::1-:2", "is no option"), ("user,mtu=9", "mtu"),
    ("tap=lo,mac=02:00:00:00:00:01", "lo"), ("user,filter=maybe", "'on' or 'off'")])
def test_what_is_wrong_is_said(vmm, guest, text, message, tmp_path):
    done = subprocess.run([vmm, "--kernel", "/dev/null", "--net", text], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2 and message in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["cloud", "generic", "rt"])
@pytest.mark.usefixtures("main_kernel")
def test_lodge_run_with_a_network(program, guest, name):
    from lodge_run import Lodge, need_image, need_kernel
    need_image(guest, "busybox")
    need_kernel(guest, name)
    lodge = Lodge(program("lodge"), guest, ["--vm"])
    server = listen("127.0.0.1")
    data = os.urandom(1 << 20)
    thread = serve(server, data, [])
    port = server.getsockname()[1]
    done = lodge.run("--engine", "soft", "--kernel", name, "--net", "user,host-loopback=on", "busybox", "sh", "-c",
                     f"nc 10.0.2.2 {port} </dev/null | sha256sum; route -n; cat /etc/resolv.conf")
    thread.join(60)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(data).hexdigest().encode() in done.stdout and b"10.0.2.2" in done.stdout
    alone = lodge.run("--engine", "soft", "busybox", "sh", "-c", "ls /sys/class/net")
    assert alone.stdout.split() == [b"lo"]
    thread = serve(server, data, [])
    done = lodge("run", "--net", "user,host-loopback=on", "busybox", "sh", "-c", f"nc 10.0.2.2 {port} </dev/null | sha256sum; ip -4 addr show eth0")
    thread.join(60)
    assert hashlib.sha256(data).hexdigest().encode() in done.stdout and b"10.0.2.15/24" in done.stdout, done.stderr
    assert b"there is no network 'bridge'" in lodge("run", "--vm", "--net", "bridge", "busybox", "true").stderr
    lodge.assert_clean()
