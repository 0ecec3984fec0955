#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gpt_disk.py DISK PARTITION...: a disk image with a GUID partition table (UEFI specification 2.10, 5.3) around images of partitions.

Sparse: blocks of zeros become holes. Each partition begins at a whole MiB.
"""
import os
import struct
import sys
import uuid
import zlib

SECTOR, MIB, ENTRIES = 512, 1 << 20, 128
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def header(own, other, table_at, table, total):
    """One of the two headers; own and other are their sectors."""
    data = bytearray(SECTOR)
    struct.pack_into("<8sIIIIQQQQ16sQIII", data, 0, b"EFI PART", 0x10000, 92, 0, 0, own, other, 34, total - 34, DISK_ID, table_at,
                     ENTRIES, 128, zlib.crc32(table))
    struct.pack_into("<I", data, 16, zlib.crc32(bytes(data[:92])))
    return bytes(data)


def copy(source, target, offset):
    with open(source, "rb") as file:
        while block := file.read(MIB):
            if any(block):
                target.seek(offset)
                target.write(block)
            offset += len(block)


def main():
    disk, parts = sys.argv[1], sys.argv[2:]
    table, at = bytearray(128 * ENTRIES), MIB
    places = []
    for i, part in enumerate(parts):
        size = -(-os.path.getsize(part) // SECTOR) * SECTOR
        table[128 * i:128 * i + 32] = LINUX.bytes_le + uuid.uuid4().bytes
        struct.pack_into("<QQ", table, 128 * i + 32, at // SECTOR, (at + size) // SECTOR - 1)
        places.append(at)
        at = -(-(at + size) // MIB) * MIB
    total = at // SECTOR + 2048
    protective = bytearray(SECTOR)
    struct.pack_into("<B3sB3sII", protective, 446, 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(total - 1, 0xFFFFFFFF))
    protective[510:] = b"\x55\xaa"
    with open(disk, "wb") as target:
        target.truncate(total * SECTOR)
        target.write(protective + header(1, total - 1, 2, bytes(table), total) + table)
        target.seek((total - 33) * SECTOR)
        target.write(bytes(table) + header(total - 1, 1, total - 33, bytes(table), total))
        for part, place in zip(parts, places):
            copy(part, target, place)


DISK_ID = uuid.uuid4().bytes
if __name__ == "__main__":
    main()
