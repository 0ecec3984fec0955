# SPDX-License-Identifier: Apache-2.0
"""lodge image: in and out of the store, run as both isolations, hostile archives, several processes at once, kills."""
import gzip
import json
import os
import random
import signal
import socket
import subprocess
import tarfile
import time

import pytest

from conftest import need_command, need_root
from image_archives import digest, docker_archive, layer, oci_files, write_directory, write_tar
from lodge_run import Lodge, need_image, need_kernel
from network import free_port


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def lodge(program, store):
    return Lodge(program("lodge"), store)


@pytest.fixture
def busybox(guest):
    need_image(guest, "busybox")
    return guest / "images/busybox/rootfs"


def image(lodge, *args, ok=True, **kwargs):
    done = lodge("image", *args, **kwargs)
    assert (done.returncode == 0) == ok, done.stderr.decode()
    return done.stdout.decode() if ok else done.stderr.decode()


def two_layers(busybox):
    program = (busybox / "bin/busybox").read_bytes()
    lower = layer(("bin", "d", b""), ("bin/busybox", "f", program), ("bin/sh", "l", "/bin/busybox"), ("etc", "d", b""),
                  ("etc/gone", "f", b"1"), ("etc/changed", "f", b"old"), ("etc/group", "f", b"staff:x:50:\n"),
                  ("etc/passwd", "f", b"me:x:7:8::/:\n"), ("opaque", "d", b""), ("opaque/below", "f", b"1"),
                  ("linked", "f", b"same"), ("also", "h", "linked"), ("tmp", "d", b""))
    # The opaque mark comes after what it must not hide.
    upper = layer(("etc/.wh.gone", "f", b""), ("etc/changed", "f", b"new"), ("opaque/above", "f", b"1"),
                  ("opaque/.wh..wh..opq", "f", b""), ("\u00e4\u00f6\u00fc", "f", b"named"))
    return [lower, upper]


SETTINGS = {"Entrypoint": ["/bin/busybox", "sh", "-c"], "Cmd": ["echo default"], "Env": ["WHO=image"], "WorkingDir": "/etc",
            "User": "me:staff"}
LOOK = "pwd; id -u; id -g; echo $WHO; cat /etc/changed; echo; busybox ls /etc/gone; busybox ls /opaque; " \
       "busybox stat -c %h /linked; busybox test -e /\u00e4\u00f6\u00fc && echo 1"
SEEN = ["/etc", "7", "50", "image", "new", "above", "2", "1"]


@pytest.mark.parametrize("isolation", [[], ["--vm", "-q"]], ids=["container", "vm"])
def test_layers_and_settings_in_both_isolations(lodge, guest, store, tmp_path, busybox, isolation):
    if isolation:
        need_kernel(guest, "cloud")
        (store / "kernels").symlink_to(guest / "kernels")
    else:
        need_root()
    docker_archive(tmp_path / "archive.tar", two_layers(busybox), **SETTINGS)
    assert image(lodge, "import", tmp_path / "archive.tar") == "two/layers:v1\n"
    done = lodge("run", *isolation, "two/layers:v1", "PATH=/bin; alias busybox=/bin/busybox; " + LOOK.replace("busybox", "/bin/busybox"))
    assert done.stdout.decode().split() == SEEN, done.stderr
    assert lodge("run", *isolation, "two/layers:v1").stdout == b"default\n"
    lodge.assert_clean()


@pytest.mark.parametrize("form", ["docker-archive", "oci-tar", "oci-directory", "saved", "stdin"])
def test_forms_of_images_share_their_layers(lodge, store, tmp_path, busybox, form):
    layers = two_layers(busybox)
    docker_archive(tmp_path / "first.tar", layers)
    image(lodge, "import", tmp_path / "first.tar", "first")
    if form == "docker-archive":
        result = image(lodge, "import", "--json", docker_archive(tmp_path / "again.tar", layers), "second")
    elif form == "oci-tar":
        result = image(lodge, "import", "--json", write_tar(tmp_path / "oci.tar", oci_files(layers)), "second")
    elif form == "oci-directory":
        result = image(lodge, "import", "--json", write_directory(tmp_path / "oci", oci_files(layers)), "second")
    elif form == "stdin":
        result = image(lodge, "import", "--json", "-", "second", stdin=open(tmp_path / "first.tar", "rb"))
    else:
        image(lodge, "save", "first", "-o", tmp_path / "saved.tar")
        result = image(lodge, "import", "--json", tmp_path / "saved.tar", "second")
    result = json.loads(result)
    assert result["layers"] == 2 and result["layers_new"] == 0
    assert len(list((store / "oci/layers").iterdir())) == 2
    inspected = [json.loads(image(lodge, "inspect", name)) for name in ("first", "second")]
    assert [one["diff_id"] for one in inspected[0]["layers"]] == [one["diff_id"] for one in inspected[1]["layers"]] == \
        [digest(one) for one in layers]


def test_a_directory_comes_back_as_it_was(lodge, store, tmp_path):
    need_root()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_text("x")
    os.link(tree / "a/file", tree / "a/other")
    os.symlink("../../../../etc/passwd", tree / "a/link")
    os.chown(tree / "a/file", 12, 34)
    os.chmod(tree / "a/file", 0o4711)
    os.chmod(tree / "a/b", 0o1500)
    os.setxattr(tree / "a/file", "user.note", b"kept")
    os.mkfifo(tree / "pipe")
    os.utime(tree / "a/b", (1, 2))
    image(lodge, "import", tree, "tree")
    got = next((store / "oci/layers").iterdir())
    info = (got / "a/file").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777, info.st_nlink) == (12, 34, 0o4711, 2)
    assert os.getxattr(got / "a/file", "user.note") == b"kept"
    assert os.readlink(got / "a/link") == "../../../../etc/passwd"
    assert (got / "a/b").stat().st_mode & 0o7777 == 0o1500 and (got / "a/b").stat().st_mtime == 2
    assert (got / "pipe").is_fifo()
    before = {path.name for path in (store / "oci/blobs/sha256").iterdir()}
    image(lodge, "import", tree, "tree")  # the same tree is the same layer
    assert len([path for path in (store / "oci/layers").iterdir()]) == 1
    assert before <= {path.name for path in (store / "oci/blobs/sha256").iterdir()}


def bomb(mebibytes):
    block = gzip.compress(bytes(1 << 20), mtime=0)
    info = tarfile.TarInfo("zeros")
    info.size = mebibytes << 20
    return gzip.compress(info.tobuf(), mtime=0) + block * mebibytes + gzip.compress(bytes(1024), mtime=0)


def special(name, **members):
    info = tarfile.TarInfo(name)
    info.mode = 0o755
    for key, value in members.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "dotdot": (layer(("a/../../evil", "f", b"x")), "'..' in it: refused"),
    "dotdot-whiteout": (layer(("a/.wh...", "f", b"")), "whiteout"),
    "hard-link-out": (layer(("x", "h", "../../../../etc/passwd")), "'..' in it: refused"),
    "hard-link-absolute": (layer(("x", "h", "/etc/passwd")), "not in this layer: refused"),
    "hard-link-through-link": (layer(("l", "l", "/etc"), ("x", "h", "l/passwd")), "not in this layer: refused"),
    "hard-link-to-directory": (layer(("d", "d", b""), ("x", "h", "d")), "hard link to a directory"),
    "root-is-a-file": (layer(("./", "l", "/etc")), "root is no directory"),
    "long-name": (layer(("n" * 300, "f", b"")), "too long"),
    "deep": (layer(("d/" * 300 + "f", "f", b"")), "too long"),
    "owner": (layer(special("x", uid=2**32 - 1)), "owner that cannot be"),
    "cut-gzip": (gzip.compress(layer(("x", "f", os.urandom(200000))))[:-5000], "damaged or cut off"),
    "cut-tar": (layer(("x", "f", os.urandom(200000)))[:100000], "damaged or cut off"),
    "no-tar": (b"\x7fELF" + os.urandom(4096), "no tar archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_layers_are_refused(lodge, store, tmp_path, case):
    data, words = HOSTILE[case]
    (tmp_path / "evil.tar").write_bytes(data)
    assert words in image(lodge, "import", tmp_path / "evil.tar", ok=False)
    assert json.loads(image(lodge, "ls", "--json")) == []
    assert list((store / "oci/tmp").iterdir()) == [] and list((store / "oci/layers").iterdir()) == []


def test_bombs_meet_the_caps_that_the_errors_name(lodge, store, tmp_path):
    (tmp_path / "bomb.tar.gz").write_bytes(bomb(400))
    assert "more than 200 times its size" in image(lodge, "import", tmp_path / "bomb.tar.gz", ok=False)
    (tmp_path / "large.tar").write_bytes(layer(("x", "f", bytes(3 << 20))))
    assert "larger than 2 MiB" in image(lodge, "import", "--max-size", "2M", tmp_path / "large.tar", ok=False)
    sparse = tarfile.TarInfo("sparse")  # a hole of 100 TiB in a file of nothing
    sparse.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse", "GNU.sparse.size": str(100 << 40),
                          "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""}
    (tmp_path / "sparse.tar").write_bytes(layer(sparse))
    assert "the most that is taken" in image(lodge, "import", tmp_path / "sparse.tar", ok=False)
    (tmp_path / "many.tar").write_bytes(layer(*((f"{i}", "f", b"") for i in range(60))))
    assert "more than 50 files" in image(lodge, "import", "--max-files", "50", tmp_path / "many.tar", ok=False)
    assert list((store / "oci/tmp").iterdir()) == []


def test_links_stay_inside(lodge, store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    deep = str(outside).lstrip("/")
    links = [("up", "l", str(outside)), ("up/absolute", "f", b"1"), ("rel", "l", "../../../../../../" + deep), ("rel/relative", "f", b"1"),
             ("etc", "l", "/etc"), (".wh.up", "f", b""), ("over", "l", str(outside / "target")), ("over", "f", b"instead")]
    (tmp_path / "links.tar").write_bytes(layer(*links))
    assert "up/absolute" in image(lodge, "import", tmp_path / "links.tar", ok=False)  # there is no such directory in the layer
    (tmp_path / "links.tar").write_bytes(layer((deep, "d", b""), *links))
    image(lodge, "import", tmp_path / "links.tar")
    assert list(outside.iterdir()) == []
    root = next((store / "oci/layers").iterdir())
    assert (root / "over").read_bytes() == b"instead" and not (root / "over").is_symlink()
    assert (root / deep / "absolute").read_bytes() == b"1"  # as it would be inside a container


def test_device_nodes_and_overlay_attributes(lodge, store, tmp_path):
    need_root()
    entry = special("d", type=tarfile.DIRTYPE)
    entry.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y",
                         "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.fine": "1"}
    (tmp_path / "dev.tar").write_bytes(layer(entry, ("dev/sda", "b", (8, 0)), ("dev/null", "c", (1, 3)), ("pipe", "p", b"")))
    assert json.loads(image(lodge, "import", "--json", tmp_path / "dev.tar"))["devices_skipped"] == 2
    root = next((store / "oci/layers").iterdir())
    assert os.listxattr(root / "d") == ["user.fine"] and not (root / "dev/sda").exists() and (root / "pipe").is_fifo()
    image(lodge, "prune", "--all")
    assert "device node: refused" in image(lodge, "import", "--devices", "refuse", tmp_path / "dev.tar", ok=False)
    image(lodge, "import", "--devices", "make", tmp_path / "dev.tar")
    assert next((store / "oci/layers").iterdir()).joinpath("dev/sda").is_block_device()
    (tmp_path / "white.tar").write_bytes(layer(("x", "c", (0, 0))))
    assert "means a whiteout: refused" in image(lodge, "import", "--devices", "make", tmp_path / "white.tar", ok=False)


def test_a_large_directory(lodge, store, tmp_path):
    count = 100_000
    (tmp_path / "many.tar").write_bytes(layer(("d", "d", b""), *((f"d/{i}", "f", b"") for i in range(count))))
    image(lodge, "import", tmp_path / "many.tar", "many")
    assert len(os.listdir(next((store / "oci/layers").iterdir()) / "d")) == count
    image(lodge, "rm", "many")
    assert list((store / "oci/layers").iterdir()) == []


def test_content_is_held_to_its_digests(lodge, store, tmp_path, busybox):
    layers = two_layers(busybox)

    def spoil(blobs, packed):
        blobs[packed[1]] = gzip.compress(b"something else", mtime=0)

    write_tar(tmp_path / "bad.tar", oci_files(layers, spoil=spoil))
    assert "not what its digest says" in image(lodge, "import", tmp_path / "bad.tar", ok=False)
    files = dict(oci_files(layers))
    wrong = oci_files([layers[0], layer(("other", "f", b""))])
    lying = [(name, data) for name, data in wrong if b"diff_ids" not in data]
    document = next(data for _, data in wrong if b"diff_ids" in data)
    assert files and lying and document
    archive = tmp_path / "lie.tar"
    docker_archive(archive, layers)
    with tarfile.open(archive) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    members["1/layer.tar"] = layer(("other", "f", b""))
    write_tar(archive, members.items())
    assert "not what the configuration says" in image(lodge, "import", archive, ok=False)
    assert json.loads(image(lodge, "ls", "--json")) == []


def test_names_tags_and_collection(lodge, store, tmp_path, busybox):
    layers = two_layers(busybox)
    image(lodge, "import", docker_archive(tmp_path / "a.tar", layers), "a")
    image(lodge, "import", docker_archive(tmp_path / "b.tar", layers[:1]), "b:old")
    image(lodge, "tag", "b:old", "b:new")
    short = json.loads(image(lodge, "inspect", "b:old"))["digest"][7:15]
    assert json.loads(image(lodge, "inspect", short))["layers"][0]["diff_id"] == digest(layers[0])
    assert [line.split()[-1] for line in image(lodge, "history", "a").splitlines()[1:]] == ["0", "1"]
    image(lodge, "rm", "a")
    assert [path.name for path in (store / "oci/layers").iterdir()] == [digest(layers[0])[7:]]
    image(lodge, "rm", "b:old")
    assert len(list((store / "oci/layers").iterdir())) == 1, "b:new still leads to it"
    image(lodge, "rm", "b:new")
    assert list((store / "oci/layers").iterdir()) == [] and list((store / "oci/blobs/sha256").iterdir()) == []
    assert "no imported image 'b:new'" in image(lodge, "rm", "b:new", ok=False)
    for wrong in ("../x", "a..b", "-x", "a:b:", "x/", "/x:y"):
        (tmp_path / "ok.tar").write_bytes(layers[1])
        assert "lodge" in image(lodge, "import", tmp_path / "ok.tar", wrong, ok=False)
    assert not (store.parent / "x").exists()


def test_a_layer_in_use_is_not_taken_away(lodge, store, tmp_path, busybox):
    need_root()
    image(lodge, "import", docker_archive(tmp_path / "a.tar", two_layers(busybox)), "a")
    run = lodge.start("-i", "a", "/bin/busybox", "sh", "-c", "echo up; read x; /bin/busybox cat /etc/changed", stdin=subprocess.PIPE)
    assert run.stdout.readline() == b"up\n"
    image(lodge, "rm", "a")
    assert len(list((store / "oci/layers").iterdir())) == 2
    assert run.communicate(b"\n", timeout=60)[0] == b"new"
    image(lodge, "prune")
    assert list((store / "oci/layers").iterdir()) == []


def test_kills_and_collections_leave_whole_images_only(lodge, store, tmp_path, busybox):
    """Importers are killed at random moments while others import, remove and collect: what has a name is whole."""
    layers = two_layers(busybox)
    archive = docker_archive(tmp_path / "a.tar", layers)
    random.seed(5)
    deadline = time.monotonic() + 6
    rounds = 0
    while time.monotonic() < deadline or rounds < 5:
        rounds += 1
        running = [subprocess.Popen([lodge.program, "image", "import", "-q", archive, f"n{i}"], env=lodge.env, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE) for i in range(3)]
        pruner = subprocess.Popen([lodge.program, "image", "prune", "-q"], env=lodge.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.05)
        running[0].send_signal(signal.SIGKILL)
        for one in running:
            error = one.communicate(timeout=60)[1]
            assert one is running[0] or one.returncode == 0, error
        pruner.wait(60)
        for name in ("n1", "n2"):
            done = lodge("image", "save", name, "-o", tmp_path / "out.tar")
            assert done.returncode == 0, done.stderr
        if rounds % 3 == 0:
            image(lodge, "rm", "-q", "n1", "n2", "n0", "--force")
    image(lodge, "prune", "--all", "-q")
    assert list((store / "oci/tmp").iterdir()) == [] and list((store / "oci/blobs/sha256").iterdir()) == []


def test_a_full_disk_says_so_and_leaves_nothing(lodge, program, tmp_path, busybox):
    need_root()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", small], check=True)
    try:
        full = Lodge(program("lodge"), small)
        (tmp_path / "big.tar").write_bytes(layer(("x", "f", os.urandom(2 << 20))))
        assert "No space left" in image(full, "import", tmp_path / "big.tar", "big", ok=False)
        assert list((small / "oci/tmp").iterdir()) == [] and json.loads(image(full, "ls", "--json")) == []
        (tmp_path / "fits.tar").write_bytes(layer(("x", "f", b"fits")))
        image(full, "prune")
        image(full, "import", tmp_path / "fits.tar", "fits")
        # Not a byte is left: what is removed makes the room for saying so.
        with open(small / "fill", "wb", buffering=0) as fill, pytest.raises(OSError):
            while True:
                fill.write(bytes(4096))
        assert "No space left" in image(full, "tag", "fits", "again", ok=False)
        image(full, "rm", "fits")
        assert json.loads(image(full, "ls", "--json")) == []
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.fixture
def registry(tmp_path):
    need_command("docker-registry")
    need_command("skopeo")
    port = free_port()
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
    server = subprocess.Popen(["docker-registry", "serve", tmp_path / "registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None, "the registry does not start"
            time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    server.kill()
    server.wait()


def test_push_and_pull(lodge, store, registry, tmp_path, busybox):
    layers = two_layers(busybox)
    image(lodge, "import", docker_archive(tmp_path / "a.tar", layers, **SETTINGS), "a")
    image(lodge, "push", "--insecure", "a", f"{registry}/some/a:v1")
    image(lodge, "rm", "a")
    assert list((store / "oci/layers").iterdir()) == []
    assert image(lodge, "pull", "--insecure", f"{registry}/some/a:v1") == f"{registry}/some/a:v1\n"
    got = json.loads(image(lodge, "inspect", f"{registry}/some/a:v1"))
    assert [one["diff_id"] for one in got["layers"]] == [digest(one) for one in layers]
    assert got["config"]["config"]["Entrypoint"] == SETTINGS["Entrypoint"]
    assert "manifest unknown" in image(lodge, "pull", "--insecure", f"{registry}/some/other", ok=False)
    assert "no imported image 'nosuch'" in image(lodge, "push", "--insecure", "nosuch", ok=False)
    assert list((store / "oci/tmp").iterdir()) == []
