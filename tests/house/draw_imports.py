"""Draws every import of `router` into docs/images/imports.svg: floors from top to bottom, in each its rooms, in each
its modules, so that what imports stands above what is imported. An import that ran up would be a red line.

    make imports, or python tests/house/draw_imports.py FILE
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

import imports
from imports import FLOOR_OF, FLOORS, Graph

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / "docs" / "images" / "imports.svg"
COLOURS = ("#7a8794", "#2f7d53", "#2563a8", "#8a4fa3", "#b0552b", "#44576b")
WIDTH, MARGIN, GAP, ROW, LETTER = 1800.0, 12.0, 10.0, 19.0, 4.7
ROOM_HEAD, BAND_GAP = 18.0, 40.0


class Cell(NamedTuple):
    """Where a module's name stands: left edge, top, width."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


class Room(NamedTuple):
    name: str
    x: float
    y: float
    width: float
    height: float


def levels(names: Collection[str], arrows: Mapping[str, Collection[str]]) -> list[list[str]]:
    """`names` in rows, the highest first, each row above all that it imports of `names`."""
    of: dict[str, int] = {}

    def level(name: str, above: tuple[str, ...] = ()) -> int:
        if name not in of:
            below = [each for each in arrows[name] if each in names and each != name and each not in above]
            of[name] = 1 + max((level(each, (*above, name)) for each in below), default=-1)
        return of[name]

    for name in sorted(names):
        level(name)
    return [sorted(name for name in names if of[name] == row) for row in range(max(of.values()), -1, -1)]


def shown(module: str) -> str:
    """`methods/mf` of `router.heads.methods.mf`; a room's own name for its `__init__`."""
    parts = module.split(".")[2:] or module.split(".")[-1:]
    return "/".join(parts)


def bands(arrows: Graph) -> Iterator[tuple[int, list[str]]]:
    """The rooms from top to bottom, with their floor. Rooms of a floor that import another of it stand above that."""
    if "router" in arrows:  # what it exports
        yield len(FLOORS) - 1, [""]
    rooms = {imports.room(name) for name in arrows} - {""}
    between = {
        one: {imports.room(target) for name in arrows if imports.room(name) == one for target in arrows[name]} - {""}
        for one in rooms
    }
    for floor in range(len(FLOORS) - 1, -1, -1):
        here = {one for one in rooms if FLOOR_OF[one] == floor}
        for row in levels(here, between) if here else ():
            yield floor, row


def place(arrows: Graph) -> tuple[dict[str, Cell], list[tuple[int, Room]], float]:
    """Cells by module, rooms with their floors, and the height of all."""
    cells: dict[str, Cell] = {}
    boxes: list[tuple[int, Room]] = []
    y = 50.0
    for floor, row in bands(arrows):
        members = {one: [name for name in arrows if imports.room(name) == one] for one in row}
        letters = {one: sum(len(shown(name)) * LETTER + GAP for name in members[one]) for one in row}
        narrowest = min(130.0, (WIDTH - MARGIN) / len(row) - MARGIN)
        free = WIDTH - MARGIN * (len(row) + 1) - narrowest * len(row)
        x, tallest = MARGIN, 0.0
        for one in row:
            width = narrowest + free * letters[one] / sum(letters.values())
            height = _fill(members[one], arrows, cells, x, y, width)
            boxes.append((floor, Room(one or "router", x, y, width, height)))
            x, tallest = x + width + MARGIN, max(tallest, height)
        y += tallest + BAND_GAP
    return cells, boxes, y


def _fill(names: list[str], arrows: Graph, cells: dict[str, Cell], left: float, top: float, width: float) -> float:
    """Put the modules of one room into `cells`. The room's height."""
    y = top + ROOM_HEAD
    for row in levels(names, arrows):
        for line in _wrapped(row, width - GAP):
            space = (width - sum(map(_width, line))) / (len(line) + 1)
            x = left + space
            for name in line:
                cells[name] = Cell(x, y, _width(name))
                x += _width(name) + space
            y += ROW
        y += ROW / 3
    return y - top


def _width(module: str) -> float:
    return len(shown(module)) * LETTER + GAP / 2


def _wrapped(row: list[str], width: float) -> Iterator[list[str]]:
    """`row` in as many lines as it takes."""
    line: list[str] = []
    for name in row:
        if line and sum(map(_width, line)) + GAP / 2 * len(line) + _width(name) > width:
            yield line
            line = []
        line.append(name)
    yield line


def draw(arrows: Graph) -> str:
    """The picture: a `path` for each import, of class `up` where it does not run down."""
    cells, rooms, height = place(arrows)
    count = sum(map(len, arrows.values()))
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:.0f}" fill="#1b2733" '
        'font-family="Helvetica, Arial, sans-serif" font-size="8.5">',
        "<title>Every import of Headgate</title>",
        f'<rect width="{WIDTH:g}" height="{height:.0f}" fill="#fff"/>',
        f'<text x="{MARGIN:g}" y="26" font-size="15">{len(arrows)} modules, {count} imports, lazy and native ones too: '
        "each line runs down to what is imported, in the colour of the floor it comes from</text>",
        *_group('font-size="11" font-weight="bold" stroke-width="1"', starmap(_box, rooms)),
        *_group('fill="none" stroke-width=".6" stroke-opacity=".3"', _lines(arrows, cells)),
        *_group('fill="#fff" stroke="#cfd8e1" stroke-width=".6"', map(_frame, cells.values())),
        *_group('stroke="none"', starmap(_label, cells.items())),
        "</svg>\n",
    ))  # fmt: skip


def _group(attributes: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"<g {attributes}>"
    yield from lines
    yield "</g>"


def _box(floor: int, room: Room) -> str:
    return (
        f'<rect x="{room.x:.0f}" y="{room.y:.0f}" width="{room.width:.0f}" height="{room.height:.0f}" rx="6" '
        f'fill="#f4f7fa" stroke="#b9c6d3"/>'
        f'<text x="{room.x + 5:.0f}" y="{room.y + 13:.0f}" fill="{COLOURS[floor]}">{room.name}</text>'
    )


def _frame(cell: Cell) -> str:
    return f'<rect x="{cell.x:.0f}" y="{cell.y:.0f}" width="{cell.width:.0f}" height="13" rx="3"/>'


def _label(name: str, cell: Cell) -> str:
    return f'<text x="{cell.x + 3:.0f}" y="{cell.y + 9:.0f}">{shown(name)}</text>'


def _lines(arrows: Graph, cells: Mapping[str, Cell]) -> Iterator[str]:
    for one in sorted(arrows, key=lambda name: (_floor(name), name)):
        for other in sorted(arrows[one]):
            yield _line(cells[one], cells[other], COLOURS[_floor(one)])


def _floor(module: str) -> int:
    return FLOOR_OF.get(imports.room(module), len(FLOORS) - 1)


def _line(one: Cell, other: Cell, colour: str) -> str:
    start, end = one.y + 13, other.y
    bend = max(8.0, (end - start) / 2)
    course = (
        f"M{one.middle:.0f} {start:.0f}C{one.middle:.0f} {start + bend:.0f} "
        f"{other.middle:.0f} {end - bend:.0f} {other.middle:.0f} {end:.0f}"
    )
    return (
        f'<path d="{course}" stroke="{colour}"/>'
        if end > start
        else f'<path class="up" d="{course}" stroke="#d00" stroke-width="2" stroke-opacity="1"/>'
    )


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(draw(imports.graph(ROOT)), encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
