"""How far a command has come is read from what it writes, without asking it to know about us.

Three ways are understood, in order of trust; once a better one was seen, lesser ones count no more:

1. a line of its own: `::progress 3/10 message`, `::progress 3/10files message`, `::progress 30% message`;
2. the terminal's progress sequence OSC 9;4 (ConEmu, Windows Terminal, systemd), with BEL or ST at its end:
   `ESC ] 9 ; 4 ; state ; percent`; of the states 1 (normal), 2 (error) and 4 (warning) count, 0 and 3 do
   not say how far it came;
3. a percentage in a line redrawn by carriage returns, as tqdm, curl -#, wget, rsync and git draw bars.

Both readers take bytes as they come.  What they say depends on the bytes alone, never on how they were cut,
and they keep a few kilobytes whatever comes.  A chunk of short lines costs them a few searches.
"""

import re
from dataclasses import dataclass

LINE_BYTES = 2048  # of a line or a redrawn part that are looked at for progress
LAST_BYTES = 8192  # of a line that are looked at for its text: colours may take more room than letters
TEXT_CHARS = 500

_NUMBER = rb"(\d{1,15}(?:\.\d{1,9})?)"
_SAID = re.compile(
    rb"::progress[ \t]+"
    + _NUMBER
    + rb"(?:[ \t]*/[ \t]*"
    + _NUMBER
    + rb"([^\W\d_]{0,16})|[ \t]*%)(?![^ \t])(.*)",
    re.DOTALL,
)
_SAID_AT = re.compile(rb"^::progress[ \t][^\n]*", re.MULTILINE)
_OSC = re.compile(rb"\x1b\]9;4;([0-4])(?:;(\d{0,3}))?;?(?:\x07|\x1b\\)")
_OSC_BYTES = 15  # the longest of them
_PERCENT = re.compile(rb"(?<![\d.\-])(\d{1,3}(?:\.\d{1,9})?)[ ]?%")
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|\x1b?$)|[ -/]+[0-~]?|[0-~]?)"
)
_CONTROL = dict.fromkeys([*range(9), *range(10, 32), 127], "") | {9: " "}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something has come; `fraction` is 0 to 1, None when the total is not known or 0."""

    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str = ""
    fraction: float | None = None

    @property
    def text(self) -> str:
        """The same in words, such as `60% complete`."""
        return "" if self.fraction is None else f"{int(self.fraction * 100 + 1e-9)}% complete"


class Gauge:
    """Reads progress from one stream of a command."""

    def __init__(self) -> None:
        self._found: list[Progress | None] = [None, None, None]  # said, sequence, bar: in order of trust
        self._part = b""  # the beginning of the part (from the last \r or \n on) that is not complete yet
        self._redrawn = False  # that part stands where another one stood
        self._return = False  # the last byte was a \r, and a \n may make a plain line end of it
        self._recent = b""  # the last bytes, in which a sequence may have begun

    @property
    def progress(self) -> Progress | None:
        """The latest word of the most trusted source; None while nothing was said."""
        said, sequence, bar = self._found
        if said is None and sequence is None and self._redrawn:
            return _bar(self._part) or bar
        return said or sequence or bar

    def feed(self, chunk: bytes) -> None:
        """Read on; `chunk` may be any piece of the stream."""
        if self._found[0] is None:
            self._sequences(chunk)
        if self._return:
            chunk = b"\r" + chunk
        if self._part or self._redrawn or b"\r" in chunk or b"::" in chunk or not chunk.endswith(b"\n"):
            self._lines(chunk)

    def close(self) -> None:
        """Note the end of the stream: what was written of the last line is all of it."""
        self.feed(b"\n")

    def _sequences(self, chunk: bytes) -> None:
        window = self._recent + chunk
        if b"\x1b]9;4;" in window:
            for match in _OSC.finditer(window):
                state, percent = match.groups()
                if state in b"124" and percent and match.end() > len(self._recent):
                    self._found[1] = _percent(float(percent), b"")
        self._recent = window[-_OSC_BYTES:]

    def _lines(self, chunk: bytes) -> None:
        if b"\r" in chunk:
            if b"\r\r" in chunk:
                chunk = re.sub(rb"\r\r+", b"\r", chunk)
            chunk = chunk.replace(b"\r\n", b"\n")
        self._return = chunk.endswith(b"\r")
        if self._return:
            chunk = chunk[:-1]
        first = _first_end(chunk)
        if first < 0:
            self._part = (self._part + chunk[:LINE_BYTES])[:LINE_BYTES]
            return
        last = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        block = b"".join(
            (
                b"\r" if self._redrawn else b"",
                (self._part + chunk[:first])[:LINE_BYTES],
                chunk[first : last + 1],
            )
        )
        self._part = chunk[last + 1 : last + 1 + LINE_BYTES]
        self._redrawn = chunk[last : last + 1] == b"\r"
        if b"::progress" in block:
            for match in _SAID_AT.finditer(block.replace(b"\r", b"\n")):
                self._found[0] = _said(match[0][:LINE_BYTES]) or self._found[0]
        if self._found[0] is None and b"\r" in block and b"%" in block:
            self._found[2] = _last_bar(block) or self._found[2]


class LastLine:
    """Remembers the last line that has something in it, as it stands on a screen without colours."""

    def __init__(self) -> None:
        self._kept = ""
        self._part = b""

    @property
    def text(self) -> str:
        """The line as of now, also before it is ended: at most 500 characters, broken UTF-8 replaced."""
        return plain(self._part) or self._kept

    def feed(self, chunk: bytes) -> None:
        """Read on; `chunk` may be any piece of the stream."""
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r", b"\n")
        first = chunk.find(b"\n")
        if first < 0:
            self._part = (self._part + chunk[:LAST_BYTES])[:LAST_BYTES]
            return
        end = chunk.rfind(b"\n")
        block = (self._part + chunk[:first])[:LAST_BYTES] + chunk[first:end]
        self._part = chunk[end + 1 : end + 1 + LAST_BYTES]
        stop = len(block.rstrip())
        while stop > 0:
            start = block.rfind(b"\n", 0, stop) + 1
            text = plain(block[start : min(stop, start + LAST_BYTES)])
            if text:
                self._kept = text
                return
            stop = start - 1


def plain(line: bytes) -> str:
    """Strip a line of colours, control characters and outer blanks; at most 500 characters remain."""
    text = line.decode(errors="replace")
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    return text.translate(_CONTROL).strip()[:TEXT_CHARS].rstrip()


def _first_end(chunk: bytes) -> int:
    line = chunk.find(b"\n")
    part = chunk.find(b"\r", 0, line if line >= 0 else len(chunk))
    return part if part >= 0 else line


def _said(line: bytes) -> Progress | None:
    match = _SAID.fullmatch(line)
    if match is None:
        return None
    current, total, unit, message = match.groups()
    if total is None:
        return _percent(float(current), message)
    whole = float(total)
    return Progress(
        current=_short(float(current)),
        total=_short(whole),
        unit=unit.decode(errors="replace") or None,
        message=plain(message),
        fraction=min(1.0, float(current) / whole) if whole > 0 else None,
    )


def _percent(percent: float, message: bytes) -> Progress:
    percent = min(100.0, percent)
    return Progress(_short(percent), 100, "%", plain(message), percent / 100)


def _short(number: float) -> float:
    return int(number) if number.is_integer() else number


def _last_bar(block: bytes) -> Progress | None:
    for line in reversed(block.split(b"\n")):
        if b"\r" in line and b"%" in line:
            for part in reversed(line.split(b"\r")):
                bar = _bar(part[:LINE_BYTES])
                if bar is not None:
                    return bar
    return None


def _bar(part: bytes) -> Progress | None:
    match = _PERCENT.search(part)
    if match is None or float(match[1]) > 100:
        return None
    return _percent(float(match[1]), b"")
