# SPDX-License-Identifier: Apache-2.0
"""The manager's port for other hosts: who has a certificate of its authority, in its time and for a client, gets all of the API; nobody
else gets one byte of it. The certificates are made by the openssl command."""
import json
import os
import re
import socket
import ssl
import subprocess

import pytest

from conftest import need_command, need_root
from manager import Manager
from patience import until

NAME = "lodge.test"


class Authority:
    def __init__(self, directory, name):
        self.dir, self.name = directory, name
        self.openssl("req", "-x509", *self.new_key(name), "-subj", f"/CN={name}", "-days", "3", "-out", self.path(name, "pem"))

    def path(self, name, kind):
        return str(self.dir / f"{name}.{kind}")

    def new_key(self, name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path(name, "key")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

    def make(self, name, extensions, *times):
        """times: for a certificate that is over, or has not begun."""
        self.openssl("req", *self.new_key(name), "-subj", f"/CN={name}", "-out", self.path(name, "csr"))
        (self.dir / "index.txt").write_text("")
        (self.dir / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.dir}/index.txt\nnew_certs_dir={self.dir}\nrand_serial=yes\ndefault_md=sha256\n"
            f"policy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\n{extensions}\n")
        self.openssl("ca", "-batch", "-config", self.path("ca", "cnf"), "-cert", self.path(self.name, "pem"), "-keyfile", self.path(self.name, "key"),
                     "-in", self.path(name, "csr"), "-out", self.path(name, "pem"), "-notext", *(times or ("-days", "2")))
        os.chmod(self.path(name, "key"), 0o600)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    need_command("openssl")
    directory = tmp_path_factory.mktemp("certificates")
    ours = Authority(directory, "authority")
    server = f"subjectAltName=DNS:{NAME},IP:127.0.0.1\nextendedKeyUsage=serverAuth"
    client = "extendedKeyUsage=clientAuth"
    ours.make("server", server)
    ours.make("client", client)
    ours.make("over", client, "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    ours.make("early", client, "-startdate", "20900101000000Z", "-enddate", "20910101000000Z")
    theirs = Authority(directory, "stranger-authority")
    theirs.make("stranger", client)
    theirs.make("impostor", server)
    return directory


@pytest.fixture(scope="module")
def manager(build, guest, certificates):
    need_root()
    if not (guest / "images" / "busybox").exists():
        pytest.skip("needs the busybox image (make guest)")
    m = Manager(build, guest)
    m.arguments = ["--listen", "tcp://127.0.0.1:0", "--tls-ca", certificates / "authority.pem", "--tls-cert", certificates / "server.pem",
                   "--tls-key", certificates / "server.key"]
    m.start()
    m.port = int(until(lambda: re.findall(r"served at port (\d+)", m.log.read_text()))[-1])
    m.silent = socket.create_connection(("127.0.0.1", m.port))
    yield m
    m.silent.close()
    m.close()


def lodge(manager, certificates, *arguments, who="client", authority="authority", host="127.0.0.1", **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LODGE_")}
    command = [manager.bin / "lodge", "--host", f"tcp://{host}:{manager.port}", "--tls-ca", certificates / f"{authority}.pem",
               "--tls-cert", certificates / f"{who}.pem", f"--tls-key={certificates / who}.key"]
    return subprocess.run([*map(str, command), *arguments], env=environment, capture_output=True, text=True, timeout=120, **options)


def dial(manager, certificates, who=None, host=NAME):
    context = ssl.create_default_context(cafile=certificates / "authority.pem")
    if who:
        context.load_cert_chain(certificates / f"{who}.pem", certificates / f"{who}.key")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", manager.port), timeout=60), server_hostname=host)


def answer(connection, host=NAME, extra=""):
    connection.sendall(f"GET /v1/info HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n".encode())
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_client_of_ours_has_all_verbs(manager, certificates):
    def good(*arguments, **options):
        done = lodge(manager, certificates, *arguments, **options)
        assert done.returncode == 0, done
        return done.stdout

    assert good("run", "busybox", "echo", "over there") == "over there\n"
    assert lodge(manager, certificates, "run", "busybox", "sh", "-c", "exit 7").returncode == 7
    ref = good("run", "-d", "--name", "far", "busybox", "sh", "-c", "echo said; sleep 1000").strip()
    assert good("ps", "-q") == ref + "\n"
    text = "0123456789abcdef" * (1 << 16)
    assert good("exec", "-i", "far", "cat", input=text) == text
    until(lambda: good("logs", "far") == "said\n")
    good("rm", "-f", "far")
    assert good("ps", "-aq") == ""
    refused = lodge(manager, certificates, "image", "ls")
    assert refused.returncode == 125 and "works on this host only" in refused.stderr


def test_settings_come_from_environment_and_file(manager, certificates, tmp_path):
    places = {"LODGE_TLS_CA": "authority.pem", "LODGE_TLS_CERT": "client.pem", "LODGE_TLS_KEY": "client.key"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LODGE_HOST": f"tcp://127.0.0.1:{manager.port}",
                   **{name: str(certificates / file) for name, file in places.items()}}
    assert subprocess.run([manager.bin / "lodge", "ps", "-q"], env=environment, timeout=60, check=True, capture_output=True).stdout == b""
    settings = tmp_path / ".config" / "lodge"
    settings.mkdir(parents=True)
    for name, file in (("ca.pem", "authority.pem"), ("cert.pem", "client.pem"), ("key.pem", "client.key")):
        (settings / name).symlink_to(certificates / file)
    (settings / "client.json").write_text(json.dumps({"host": environment["LODGE_HOST"]}))
    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert subprocess.run([manager.bin / "lodge", "ps", "-q"], env=alone, timeout=60, check=True, capture_output=True).stdout == b""
    (settings / "client.json").write_text('{"host": "127.0.0.1"}')
    wrong = subprocess.run([manager.bin / "lodge", "ps"], env=alone, timeout=60, capture_output=True, text=True)
    assert wrong.returncode == 125 and "tcp://HOST:PORT" in wrong.stderr


@pytest.mark.parametrize("who", ["over", "early", "stranger", "server"])
def test_other_certificates_are_refused(manager, certificates, who):
    done = lodge(manager, certificates, "ps", who=who)
    assert done.returncode == 125 and done.stdout == "" and "reach the manager at" in done.stderr, done
    assert "refused" in until(lambda: manager.log.read_text())


def test_a_client_believes_only_its_authority_and_the_name(manager, certificates):
    done = lodge(manager, certificates, "ps", authority="stranger-authority")
    assert done.returncode == 125 and "NOT trusted" in done.stderr, done
    done = lodge(manager, certificates, "ps", host="localhost")
    assert done.returncode == 125 and "does not match" in done.stderr, done
    (certificates / "open.key").write_text((certificates / "client.key").read_text())
    (certificates / "open.pem").write_text((certificates / "client.pem").read_text())
    os.chmod(certificates / "open.key", 0o644)
    done = lodge(manager, certificates, "ps", who="open")
    assert done.returncode == 125 and "everybody may read" in done.stderr, done


def test_without_a_certificate_there_is_nothing(manager, certificates):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with dial(manager, certificates) as connection:
            assert not answer(connection)
            raise ConnectionError
    with socket.create_connection(("127.0.0.1", manager.port), timeout=60) as plain:
        plain.sendall(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"HTTP" not in plain.recv(65536)
        except ConnectionError:
            pass


def test_old_protocols_are_refused(manager, certificates):
    context = ssl.create_default_context(cafile=certificates / "authority.pem")
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(socket.create_connection(("127.0.0.1", manager.port), timeout=60), server_hostname=NAME)


def test_names_and_origins_are_held_to(manager, certificates):
    for host, extra, status in ((NAME, "", 200), (f"127.0.0.1:{manager.port}", "", 200), ("evil.test", "", 403),
                                (NAME, "Origin: https://evil.test\r\n", 403)):
        with dial(manager, certificates, "client") as connection:
            assert answer(connection, host, extra).startswith(f"HTTP/1.1 {status} ".encode()), host


def test_a_silent_connection_has_its_time(manager):
    manager.silent.settimeout(60)
    try:
        while manager.silent.recv(4096):
            pass
    except ConnectionError:
        pass


def test_silent_connections_keep_nobody_out(manager, certificates):
    silent = [socket.create_connection(("127.0.0.1", manager.port)) for _ in range(200)]
    try:
        for connection in silent[::20]:
            connection.sendall(b"\x16")
        assert lodge(manager, certificates, "ps", "-q").returncode == 0
        silent[0].settimeout(60)
        try:
            assert silent[0].recv(1) == b""
        except ConnectionError:
            pass
    finally:
        for connection in silent:
            connection.close()
    assert lodge(manager, certificates, "ps", "-q").returncode == 0


def test_no_port_without_certificates(manager, certificates):
    for arguments in (["--listen", "tcp://127.0.0.1:0"], ["--listen", "127.0.0.1:0"], ["--tls-ca", "x"],
                      ["--listen", "tcp://127.0.0.1:0", "--tls-cert", certificates / "server.pem", "--tls-key", certificates / "server.key"]):
        done = subprocess.run([manager.bin / "lodged", *arguments], env=manager.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "--tls" in done.stderr or "tcp://" in done.stderr, done
