"""Where the steps of a plan are drawn: in columns, each behind all that it needs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 176, 52
"""Of a step, in pixels."""
BETWEEN, BELOW, MARGIN, GAP = 56, 18, 12, 8
MOST = 400
"""Steps that are drawn; more of them are only listed."""
SWEEPS = 4


class Box(NamedTuple):
    """A step and where it stands."""

    step: dict[str, Any]
    x: int
    y: int


class Graph(NamedTuple):
    """A plan as it is drawn."""

    boxes: list[Box]
    lines: list[tuple[str, str, bool]]
    """The way of each line, the status of the step that it comes from, and whether it ends at a step."""
    width: int
    height: int


def needs(steps: Sequence[dict[str, Any]], strategy: str) -> dict[str, list[str]]:
    """Say what each step needs; in a serial plan that is the step before it."""
    names = [step["step"] for step in steps]
    if strategy == "serial":
        return {name: names[max(0, place - 1) : place] for place, name in enumerate(names)}
    known = set(names)
    given: dict[str, list[str]] = {step["step"]: step["needs"] or [] for step in steps}
    return {name: [each for each in needed if each in known] for name, needed in given.items()}


def columns(wanted: dict[str, list[str]]) -> list[list[str]]:
    """Put each step into the first column behind everything that it needs."""
    depth: dict[str, int] = {}
    waiting = dict(wanted)
    while waiting:
        ready = [name for name, needed in waiting.items() if all(each in depth for each in needed)]
        for name in ready or list(waiting):  # what needs itself stands nowhere in particular
            depth[name] = 1 + max((depth.get(each, -1) for each in wanted[name]), default=-1)
            del waiting[name]
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in wanted:
        found[depth[name]].append(name)
    return found


def threaded(found: list[list[str]], wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave a gap in every column that a long line crosses, so that it runs between steps.

    A gap is a name that no step has; the way of a line goes from gap to gap.
    """
    depth = {name: at for at, column in enumerate(found) for name in column}
    ways: dict[str, list[str]] = {name: [] for name in wanted}
    for name, needed in wanted.items():
        for each in needed:
            last = each
            for at in range(depth[each] + 1, depth[name]):
                gap = f"{each}\0{at}"
                if gap not in ways:
                    ways[gap] = [last]
                    found[at].append(gap)
                last = gap
            ways[name].append(last)
    return ways


def order(found: list[list[str]], ways: dict[str, list[str]]) -> None:
    """Order each column so that lines cross less: by the middle of what a step is tied to."""
    after: dict[str, list[str]] = {name: [] for name in ways}
    for name, needed in ways.items():
        for each in needed:
            after[each].append(name)
    for sweep in range(SWEEPS):
        backwards = sweep % 2 == 1
        place = {name: at for column in found for at, name in enumerate(column)}
        for column in reversed(found) if backwards else found:
            tied = after if backwards else ways
            middle = {
                name: sum(place[each] for each in tied[name]) / len(tied[name]) if tied[name] else place[name]
                for name in column
            }
            column.sort(key=middle.__getitem__)
            place |= {name: at for at, name in enumerate(column)}


def draw(steps: Sequence[dict[str, Any]], strategy: str) -> Graph | None:
    """Lay a plan out; None when it has no steps, or too many to be looked at."""
    if not 0 < len(steps) <= MOST:
        return None
    by_name = {step["step"]: step for step in steps}
    wanted = needs(steps, strategy)
    found = columns(wanted)
    ways = threaded(found, wanted)
    order(found, ways)
    tallest = max(map(_height, found))
    boxes: dict[str, Box] = {}
    middles: dict[str, tuple[int, int]] = {}
    for at, column in enumerate(found):
        x, y = MARGIN + at * (WIDTH + BETWEEN), MARGIN + (tallest - _height(column)) // 2
        for name in column:
            tall = HEIGHT if name in by_name else GAP
            middles[name] = x, y + tall // 2
            if name in by_name:
                boxes[name] = Box(by_name[name], x, y)
            y += tall + BELOW
    lines = [
        (_line(middles[each], middles[name], name in by_name), _status(by_name, each), name in by_name)
        for name, needed in ways.items()
        for each in needed
    ]
    width = 2 * MARGIN + len(found) * (WIDTH + BETWEEN) - BETWEEN
    return Graph(list(boxes.values()), lines, width, 2 * MARGIN + tallest)


def _height(column: list[str]) -> int:
    return sum((GAP if "\0" in name else HEIGHT) + BELOW for name in column) - BELOW


def _line(one: tuple[int, int], other: tuple[int, int], ends: bool) -> str:
    """The way from the right of one to the left of the other; through a gap it goes straight on."""
    x, y = one[0] + WIDTH, one[1]
    to_x, to_y = other[0] - (5 if ends else 0), other[1]
    bend = (to_x - x) // 2
    on = "" if ends else f"H{other[0] + WIDTH}"
    return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}{on}"


def _status(by_name: dict[str, dict[str, Any]], name: str) -> str:
    return str(by_name[name.partition("\0")[0]]["status"])
