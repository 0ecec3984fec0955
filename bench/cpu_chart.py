# SPDX-License-Identifier: Apache-2.0
"""Draws bench/results/cpu.svg: for every row, how many times slower than the bare host TCG and Lodge are, on a logarithmic scale."""
import math
from html import escape

WIDTH, LEFT, RIGHT, STEP = 900, 170, 60, 26
COLOURS = {"tcg": "#b8bec9", "lodge": "#2563a8"}


def chart(found):
    rows = [(group, row) for group in found["groups"] for row in list(group["rows"]) + list(group["beside"]) if row in found["rows"]]
    lines, y, top = [], 70, 1.0
    for _, row in rows:
        peers = found["rows"][row]
        native = peers.get("native", {}).get("cpu_s")
        for peer in peers.values():
            if native and isinstance(peer, dict):
                top = max(top, peer["cpu_s"] / native)
    decades = max(1, math.ceil(math.log10(top)))
    unit = (WIDTH - LEFT - RIGHT) / decades

    def x_of(value):
        return LEFT + unit * math.log10(min(max(value, 1.0), 10 ** decades))

    title = None
    for group, row in rows:
        peers = found["rows"][row]
        native = peers.get("native", {}).get("cpu_s")
        if not native:
            continue
        if group["title"] != title:
            title = group["title"]
            bar = group["bar_native"]
            lines.append(f'<text x="12" y="{y + 12}" class="group">{escape(title)}</text>')
            first = y + 18
            count = sum(1 for g, r in rows if g is group and found["rows"][r].get("native"))
            if bar:
                lines.append(f'<line x1="{x_of(bar):.1f}" x2="{x_of(bar):.1f}" y1="{first}" y2="{first + STEP * count}" class="bar"/>')
            y += 20
        lines.append(f'<text x="{LEFT - 8}" y="{y + 15}" class="row">{escape(row)}</text>')
        offset = 1
        for name in ("tcg", "lodge"):
            if name not in peers:
                continue
            slower = peers[name]["cpu_s"] / native
            lines.append(f'<rect x="{LEFT}" y="{y + offset}" width="{max(1.0, x_of(slower) - LEFT):.1f}" height="10" fill="{COLOURS[name]}"/>')
            lines.append(f'<text x="{x_of(slower) + 4:.1f}" y="{y + offset + 9}" class="value">{slower:.3g}</text>')
            offset += 11
        y += STEP
    grid = [f'<line x1="{x_of(10 ** d):.1f}" x2="{x_of(10 ** d):.1f}" y1="60" y2="{y}" class="grid"/>'
            f'<text x="{x_of(10 ** d):.1f}" y="56" class="axis">{10 ** d}x</text>' for d in range(decades + 1)]
    about = found["about"]
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 40}" viewBox="0 0 {WIDTH} {y + 40}" '
            'font-family="sans-serif"><style>text{font-size:11px;fill:#222}.group{font-weight:bold;font-size:12px}.row{text-anchor:end}'
            '.value{font-size:9px;fill:#555}.axis{text-anchor:middle;fill:#555}.grid{stroke:#ddd}'
            '.bar{stroke:#c0392b;stroke-dasharray:4 3}</style><rect width="100%" height="100%" fill="#fff"/>'
            '<text x="12" y="20" style="font-size:14px;font-weight:bold">Slower than the bare host, by CPU time (shorter is better)</text>'
            f'<rect x="12" y="30" width="10" height="10" fill="{COLOURS["tcg"]}"/><text x="26" y="39">{escape(about["qemu"].split("(")[0])}, TCG</text>'
            f'<rect x="250" y="30" width="10" height="10" fill="{COLOURS["lodge"]}"/><text x="264" y="39">Lodge, software CPU</text>'
            '<line x1="420" x2="440" y1="35" y2="35" class="bar"/><text x="446" y="39">bar</text>')
    foot = f'<text x="12" y="{y + 26}" class="value">{escape(about["host"])}, guest kernel {escape(about["guest_kernel"])}, {about["date"]} UTC</text></svg>\n'
    return head + "".join(grid) + "\n".join(lines) + foot
