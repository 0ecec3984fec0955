# SPDX-License-Identifier: Apache-2.0
"""What runs on the host."""
import os
from pathlib import Path


def processes(environment=""):
    """(pid, words of the command line) of each process that has this text in its environment; one that ends meanwhile is passed over."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if not environment or environment in os.fsdecode((entry / "environ").read_bytes()):
                yield int(entry.name), [os.fsdecode(word) for word in words]
        except OSError:
            continue
