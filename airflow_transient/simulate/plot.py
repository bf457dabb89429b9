"""Waiting messages and live tasks over time, as blocks for a terminal or as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from airflow_transient.core.simulation import Replay, Sample

BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 60
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
PANELS: tuple[tuple[str, Callable[[Sample], int]], ...] = (
    ("messages waiting", lambda sample: sample.visible),
    ("tasks live", lambda sample: sample.live),
)


def blocks(replays: Mapping[str, Replay]) -> str:
    """Two rows for each replay, all to one scale, from 0 to where the longest ends."""
    end = _end(replays)
    width = max(map(len, replays))
    lines = [f"{'':{width}}  {'':16}  0 s{f'{end:,.0f} s':>{COLUMNS - 3}}"]
    for what, value in PANELS:
        rows = {name: _columns(replay.samples, value, end, COLUMNS) for name, replay in replays.items()}
        top = max(map(max, rows.values()))
        for name, row in rows.items():
            lines.append(f"{name:{width}}  {what:16}  {''.join(_block(n, top) for n in row)}  {max(row):,} at most")
    return "\n".join(lines)


def svg(replays: Mapping[str, Replay], title: str) -> str:
    end, width, height, left = _end(replays), 720, 160, 60
    bottom = 40 + len(PANELS) * (height + 40)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {bottom + 20 * len(replays)}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="20">{escape(title)}</text>',
    ]
    for number, (what, value) in enumerate(PANELS):
        rows = [_columns(replay.samples, value, end, width) for replay in replays.values()]
        top, base = max(1, *map(max, rows)), 40 + number * (height + 40) + height
        parts += [
            f'<path d="M{left} {base - height}V{base}H{left + width}" fill="none" stroke="#888"/>',
            f'<text x="{left - 6}" y="{base - height + 4}" text-anchor="end">{top:,}</text>',
            f'<text x="{left}" y="{base - height - 6}">{what}</text>',
            f'<text x="{left + width}" y="{base + 16}" text-anchor="end">{end:,.0f} s</text>',
        ]
        # Each line is thinner than the one it may lie on.
        for below, (row, colour) in enumerate(zip(rows, _colours(replays), strict=True)):
            points = " ".join(f"{left + x},{base - n * height / top:.1f}" for x, n in enumerate(row))
            wide = 1.5 * (len(rows) - below)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
    for line, (name, colour) in enumerate(zip(replays, _colours(replays), strict=True)):
        parts.append(f'<text x="{left}" y="{bottom + 20 * line}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _colours(replays: Mapping[str, Replay]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(replays))]


def _end(replays: Mapping[str, Replay]) -> float:
    return max(replay.samples[-1].seconds for replay in replays.values())


def _columns(samples: Sequence[Sample], value: Callable[[Sample], int], end: float, columns: int) -> list[int]:
    """The largest value in each column; a sample holds until the next."""
    row = [0] * columns
    place = [min(columns - 1, int(sample.seconds * columns / end)) if end else 0 for sample in samples]
    for sample, first, past in zip(samples, place, [*place[1:], place[-1] + 1], strict=True):
        for column in range(first, max(first + 1, past)):
            row[column] = max(row[column], value(sample))
    return row


def _block(count: int, top: int) -> str:
    return BLOCKS[-(-count * (len(BLOCKS) - 1) // top)] if count else BLOCKS[0]
