#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finds a local of CLEANUP(...) that a return leaves before anything was put into it: its destructor would free what the stack held.

A declaration without an initializer must be followed, before the first return of its function, by a call that takes its address. Prints
each offence as file:line and exits 1 if there is any. A reading of lines, not of C: good for the form in which this code is written.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DECLARED = re.compile(r"^\s+CLEANUP\(\w+\) [\w ]+?[ *](\w+);")


def offences(path):
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        declared = DECLARED.match(line)
        if not declared:
            continue
        for after in range(number + 1, len(lines)):
            if f"&{declared.group(1)}" in lines[after]:
                break
            if re.search(r"\breturn\b", lines[after]) or lines[after].startswith("}"):
                yield f"{path.relative_to(ROOT)}:{number + 1}: '{declared.group(1)}' is cleaned up at line {after + 1}, where nothing is in it yet"
                break


def main():
    found = [offence for path in sorted((ROOT / "src").rglob("*.c")) for offence in offences(path)]
    print("\n".join(found) if found else "no local is cleaned up before it is filled")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
