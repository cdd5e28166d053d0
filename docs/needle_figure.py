"""Draw docs/needle.svg from the table of `benchmarks/needle.py`: who sees one patch of many, and what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log10
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parent / "benchmarks/results/needle.txt"
_ROW = re.compile(
    r"^ +(?P<patches>[\d,]+) +[\d,]+ +(?P<lesion>none|\d+)  (?P<reader>\S.*?) +\d+ +(?P<share>\d\.\d+)"
    r" +(?P<low>\d\.\d+)–(?P<high>\d\.\d+)",
    re.MULTILINE,
)
_COLOURS = {
    "every patch (auto)": "#0b57d0",
    "groups": "#7a5af5",
    "126 farthest": "#b3541e",
    "126 shared": "#7d8590",
    "126 of one slide": "#1b1f24",
}
_PANELS = (
    ("1", 0.95, "A lesion of one patch: called diseased (goal 0.95)"),
    ("none", 0.05, "No lesion: called diseased (goal 0.05)"),
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 240, 46, 40, 70


@dataclass(frozen=True)
class Point:
    """A row of the table: a share of cases with its 95 % interval."""

    reader: str
    lesion: str
    patches: int
    share: float
    low: float
    high: float


def points(table: str) -> Iterator[Point]:
    """All rows of a printed table."""
    for row in _ROW.finditer(table):
        share, low, high = (float(row[name]) for name in ("share", "low", "high"))
        yield Point(row["reader"], row["lesion"], int(row["patches"].replace(",", "")), share, low, high)


def figure(table: str) -> str:
    """Two panels as SVG, over the number of patches; of what was printed last."""
    rows = list(points(table.split("measured before")[0]))
    sizes = sorted({row.patches for row in rows})
    read = {row.reader for row in rows}
    colours = {reader: colour for reader, colour in _COLOURS.items() if reader in read}
    parts = []
    for number, (lesion, goal, title) in enumerate(_PANELS):
        here = [row for row in rows if row.lesion == lesion]
        parts.append(_panel(here, sizes, colours, goal, title, _LEFT + number * (_WIDTH + _GAP)))
    legend = [
        f'<text x="{_LEFT + 150 * (n % 5)}" y="{_TOP + _HEIGHT + 58}" fill="{colour}">● {reader}</text>'
        for n, (reader, colour) in enumerate(colours.items())
    ]
    width, height = 2 * _WIDTH + _GAP + _LEFT + 40, _TOP + _HEIGHT + 75
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}{"".join(legend)}</svg>\n'
    )


def _panel(
    rows: list[Point], sizes: list[int], colours: Mapping[str, str], goal: float, title: str, left: float
) -> str:
    def x(patches: int) -> float:
        low, high = log10(sizes[0]), log10(sizes[-1])
        return left + 12 + (log10(patches) - low) / (high - low) * (_WIDTH - 24)

    def y(share: float) -> float:
        return _TOP + (1 - share) * _HEIGHT

    parts = [f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{left} {y(share)}h{_WIDTH}" stroke="#e3e6ea"/>')
        parts.append(f'<text x="{left - 8}" y="{y(share) + 4}" text-anchor="end" fill="#59636e">{share:g}</text>')
    parts.append(f'<path d="M{left} {y(goal)}h{_WIDTH}" stroke="#2f7d32" stroke-dasharray="5 4"/>')
    parts.append(f'<text x="{left + _WIDTH + 4}" y="{y(goal) + 4}" fill="#2f7d32">{goal:g}</text>')
    for size in sizes:
        parts.append(
            f'<text x="{x(size)}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle" fill="#59636e">{size:,}</text>'
        )
    parts.append(
        f'<text x="{left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">patches of the case</text>'
    )
    for number, (reader, colour) in enumerate(colours.items()):
        mine = sorted((row for row in rows if row.reader == reader), key=lambda row: row.patches)
        aside = 3 * (number - (len(colours) - 1) / 2)  # so that intervals can be told apart
        line = " ".join(f"{x(row.patches) + aside},{y(row.share)}" for row in mine)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for row in mine:
            at = x(row.patches) + aside
            parts.append(f'<path d="M{at} {y(row.low)}V{y(row.high)}" stroke="{colour}" opacity="0.5"/>')
            parts.append(f'<circle cx="{at}" cy="{y(row.share)}" r="3.5" fill="{colour}"/>')
    return "".join(parts)


if __name__ == "__main__":
    (HERE / "needle.svg").write_text(figure(TABLE.read_text()))
