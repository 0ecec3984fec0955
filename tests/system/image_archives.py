# SPDX-License-Identifier: Apache-2.0
"""Image archives made for tests: layers out of lists of entries, docker-archives and OCI layouts out of layers."""
import gzip
import hashlib
import io
import json
import tarfile


def layer(*entries) -> bytes:
    """entries: (name, kind, data) with kind f file, d directory, l symbolic link, h hard link, c/b device, p FIFO; or a TarInfo."""
    kinds = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "c": tarfile.CHRTYPE, "b": tarfile.BLKTYPE,
             "p": tarfile.FIFOTYPE}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, kind, data = entry
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if kind == "f":
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                continue
            info.type = kinds[kind]
            if kind in "lh":
                info.linkname = data
            if kind in "cb":
                info.devmajor, info.devminor = data
            tar.addfile(info)
    return out.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(layers, **settings) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "config": settings,
                       "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
                       "history": [{"created_by": f"step {i}"} for i in range(len(layers))]}).encode()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def docker_archive(path, layers, tag="two/layers:v1", **settings):
    files = [(f"{i}/layer.tar", gzip.compress(one) if i % 2 else one) for i, one in enumerate(layers)]
    manifest = [{"Config": "c.json", "RepoTags": [tag], "Layers": [name for name, _ in files]}]
    return write_tar(path, [*files, ("c.json", config(layers, **settings)), ("manifest.json", json.dumps(manifest).encode())])


def oci_files(layers, tag="oci/two:v1", spoil=None, **settings):
    """The files of an OCI layout. spoil: a function that may change the blobs {digest: data}."""
    document = config(layers, **settings)
    packed = [gzip.compress(one, mtime=0) for one in layers]
    manifest = json.dumps({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                                                          "digest": digest(document), "size": len(document)},
                           "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(one),
                                       "size": len(one)} for one in packed]}).encode()
    blobs = {digest(data): data for data in [document, manifest, *packed]}
    if spoil:
        spoil(blobs, [digest(one) for one in packed])
    index = json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest), "size": len(manifest),
         "annotations": {"org.opencontainers.image.ref.name": tag}}]}).encode()
    return [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index),
            *((f"blobs/sha256/{name[7:]}", data) for name, data in blobs.items())]


def write_directory(path, files):
    for name, data in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
