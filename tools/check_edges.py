#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds every #include in src/ to the allowed folder edges.

The table is the one in docs/ARCHITECTURE.md, between the lines `<!-- edges -->` and `<!-- /edges -->`: one row a folder,
`| folder | may include |`. A folder may include its own headers, the headers of folders it names, and those of every
folder that these name in turn is NOT implied: what is used is said. Below a folder, only `folder/*.h` is public to
others; deeper headers belong to the folder alone. Prints each offence as file:line and exits 1 if there is any.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def read_table(document: Path) -> dict[str, set[str]]:
    text = document.read_text()
    match = re.search(r"<!-- edges -->(.*?)<!-- /edges -->", text, re.S)
    if not match:
        sys.exit(f"{document}: no edge table")
    table = {}
    for line in match.group(1).splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if len(cells) != 2 or cells[0] in ("folder", "") or set(cells[0]) <= set("-: "):
            continue
        table[cells[0]] = {name.strip().strip("`") for name in cells[1].split(",") if name.strip() not in ("", "-")}
    return table


def find_cycle(table: dict[str, set[str]]) -> list[str]:
    def visit(folder: str, trail: list[str]) -> list[str]:
        if folder in trail:
            return trail[trail.index(folder):] + [folder]
        for used in sorted(table.get(folder, ())):
            cycle = visit(used, trail + [folder])
            if cycle:
                return cycle
        return []

    for folder in table:
        cycle = visit(folder, [])
        if cycle:
            return cycle
    return []


def main() -> int:
    table = read_table(ROOT / "docs" / "ARCHITECTURE.md")
    offences = []
    cycle = find_cycle(table)
    if cycle:
        offences.append("docs/ARCHITECTURE.md: cycle: " + " -> ".join(cycle))
    for path in sorted((ROOT / "src").rglob("*.[ch]")):
        folder = path.relative_to(ROOT / "src").parts[0]
        name = path.relative_to(ROOT)
        if folder not in table:
            offences.append(f"{name}: folder src/{folder} is not in the edge table")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            included = match.group(1)
            parts = included.split("/")
            if len(parts) == 1:
                # Wire contracts in include/ stand alone.
                if "include" not in table[folder] or not (ROOT / "include" / included).exists():
                    offences.append(f'{name}:{number}: "{included}": write the folder too')
                continue
            if parts[0] == folder:
                continue
            if parts[0] not in table[folder]:
                offences.append(f'{name}:{number}: {folder} may not include "{included}"')
            elif len(parts) > 2:
                offences.append(f'{name}:{number}: "{included}" is private to {parts[0]}')
    for offence in offences:
        print(offence)
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
