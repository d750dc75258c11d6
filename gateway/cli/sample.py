"""A sample workspace: the files that an agent might have left, for demonstrations."""

import os
import struct
import zlib

SESSIONS = ("demo", "sessionId", "sess_123")
_SIDE = 64

_ANALYSIS = b'''"""Counts what sold best; made by the agent."""

import csv

with open("output/results.csv", newline="") as table:
    best = max(csv.DictReader(table), key=lambda row: int(row["sold"]))
print(best["product"])
'''
_README = b"""# Analysis

`analysis.py` reads `output/results.csv`; the chart is in `output/chart.png`.
"""


def write_sample(root: str) -> None:
    """Write the sample sessions below *root*, which must not hold any of them yet."""
    for session in SESSIONS:
        for name, content in _files().items():
            path = os.path.join(root, session, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)


def _files() -> dict[str, bytes]:
    rows = (f"2026-01-{day:02},product {day % 7},{day * day % 97}\n" for day in range(1, 32))
    return {
        "README.md": _README,
        "analysis.py": _ANALYSIS,
        "logs/run.log": b"read output/results.csv\n",
        "reports/summary.md": b"What sold best: see `output/chart.png`.\n",
        "output/results.csv": ("date,product,sold\n" + "".join(rows)).encode(),
        "output/chart.png": _png(),
        "output/quarterly report.txt": b"A name with a space.\n",
        "output/résumé.txt": "A name that is not ASCII: é.\n".encode(),
    }


def _png() -> bytes:
    """Return a small picture, a colour gradient, made of the three chunks a PNG needs."""
    row = b"".join(bytes((x * 4, 128, 255 - x * 4)) for x in range(_SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * _SIDE)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
