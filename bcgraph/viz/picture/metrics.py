"""How wide a text is, and where its lines break. All lengths are points, 1/72 inch."""

from __future__ import annotations

from collections.abc import Iterable

FONT = "DejaVu Sans"
ASCENT, DESCENT = 0.76, 0.24
"""Of a line, as parts of the font size: capitals, digits and all that hangs below the baseline lie within."""

# Advance widths of DejaVu Sans for the characters 32 to 126, in 1/2048 of the font size.
_ASCII = (
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303, 1303, 1303, 1303,
    1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048, 1401, 1405, 1430, 1577, 1294, 1178,
    1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251,
    1403, 799, 690, 799, 1716, 1024, 1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995,
    1298, 1253, 1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
)  # fmt: skip
_OTHERS = 2048
"""An upper bound of what names of a file may hold beside ASCII."""


def width(content: str, size: float) -> float:
    """The width of one line of text."""
    return size / 2048 * sum(_ASCII[ord(c) - 32] if " " <= c <= "~" else _OTHERS for c in content)


def wrap(words: Iterable[str], size: float, limit: float) -> list[str]:
    """Join `words`, which keep their spaces and dots, to lines of at most `limit`; a longer word is broken."""
    lines: list[str] = []
    line = ""
    for word in words:
        if line and width((line + word).rstrip(), size) > limit:
            lines.append(line.rstrip())
            line = ""
        line += word
        while width(line.rstrip(), size) > limit and len(line) > 1:
            cut = _fitting(line, size, limit)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line.rstrip()] if line.strip() else lines


def _fitting(line: str, size: float, limit: float) -> int:
    """How many characters fit, at least one."""
    for end in range(2, len(line) + 1):
        if width(line[:end], size) > limit:
            return end - 1
    return len(line)
