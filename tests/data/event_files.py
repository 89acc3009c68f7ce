"""A writer of AEDAT 4 event files, so that tests can make files of the true format.

A file is a line that names the format, a header, and packets; header and packets are FlatBuffers, built here by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("padding", "u1", 3)])
INFO = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/">
<attr key="compression" type="string">NONE</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">
<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>
</node></node></node></dv>"""


def _prefixed(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _header(info: str) -> bytes:
    """A table of three fields: compression (none), position of the table of contents (none), description."""
    text = info.encode()
    table = 20  # behind root offset, identifier and a virtual table of 5 words, padded
    head = struct.pack("<I4s", table, b"IOHE")
    virtual = struct.pack("<HHHHHH", 10, 20, 16, 8, 4, 0)
    # At the table: offset back to the virtual table, offset to the text, table position, compression.
    fields = struct.pack("<iIqi", table - 8, 16, -1, 0)
    return _prefixed(head + virtual + fields + struct.pack("<I", len(text)) + text + b"\0")


def _packet(events: np.ndarray) -> bytes:
    """A table of one field: the vector of events, each 16 bytes."""
    head = struct.pack("<I4s", 16, b"EVTS")
    virtual = struct.pack("<HHHH", 6, 8, 4, 0)
    padding = b"\0" * 4  # so that the events stand at a multiple of 8
    fields = struct.pack("<iI", 8, 4 + len(padding))
    return _prefixed(head + virtual + fields + padding + struct.pack("<I", len(events)) + events.tobytes())


def write(path: Path, events: Iterable[tuple[int, int, int, int]], size: int = 128) -> None:
    """Write events `(t in microseconds, x, y, polarity)` in two packets."""
    rows = np.zeros(len(given := list(events)), dtype=EVENT)
    for row, (t, x, y, on) in zip(rows, given, strict=True):
        row["t"], row["x"], row["y"], row["on"] = t, x, y, on
    content = b"#!AER-DAT4.0\r\n" + _header(INFO.format(width=size, height=size))
    for part in np.array_split(rows, 2):
        packet = _packet(part)
        content += struct.pack("<ii", 0, len(packet)) + packet
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
