"""Output folded to the lines that tell something: what went wrong, and the end."""

import re

LETTERS = 200
TELLING, LAST = 5, 3
"""So many lines that speak of trouble, and so many at the end."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_TROUBLE = re.compile(
    r"error|fail|exception|fatal|panic|traceback|denied|refused|not found|no such|cannot|killed|timed? ?out",
    re.IGNORECASE,
)


def plain(text: str) -> list[str]:
    """The lines as a terminal would leave them: without colours, of a line that was written over the last."""
    lines: list[str] = []
    for line in _ESCAPES.sub("", text).split("\n"):
        shown = _CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2].replace("\t", " ")).strip()
        if shown:
            lines.append(shown)
    return lines


def fold(text: str, most: int) -> list[str]:
    """Keep the telling lines in their order, repeats counted, within so many bytes; the end counts most."""
    counted: list[tuple[str, int]] = []
    for line in plain(text):
        if counted and counted[-1][0] == line:
            counted[-1] = (line, counted[-1][1] + 1)
        else:
            counted.append((line, 1))
    trouble = [number for number, (line, _) in enumerate(counted) if _TROUBLE.search(line)]
    wanted = sorted({*trouble[-TELLING:], *range(max(0, len(counted) - LAST), len(counted))})
    shown: list[str] = []
    for number in reversed(wanted):
        line, count = counted[number]
        line = line if len(line) <= LETTERS else f"{line[: LETTERS - 1]}…"
        line = line if count == 1 else f"{line} (x{count})"
        most -= len(line.encode()) + 4
        if most < 0:
            break
        shown.insert(0, line)
    return shown
