"""Where in a line for a shell a name stands: a variable is to be one word there, whatever its value is.

The quotes of the POSIX shell language are followed (https://pubs.opengroup.org/onlinepubs/9799919799/,
chapter 2.2), also inside of `$(...)`, comments and here-documents.
"""

import re
from collections.abc import Callable

SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox")
"""Shells whose quotes are known."""
_HERE = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([\w.-]+))")

Put = Callable[[re.Match[str]], tuple[str, bool] | None]
"""What is to stand in place of a match: a text, or the name of a variable (True); None: what was there."""


class Unfit(ValueError):
    """A variable cannot be put there."""


class _Reader:
    """Goes through a line, and knows at each place which quotes are open."""

    def __init__(self, line: str, known: bool, pattern: re.Pattern[str], put: Put) -> None:
        self._line, self._known, self._pattern, self._put = line, known, pattern, put
        self._open: list[str] = [""]
        """Quotes, `(` for a command inside, `((` for arithmetic, a backtick; nothing outside."""
        self._here: list[tuple[str, bool, bool]] = []
        self._made: list[str] = []
        self._at = 0

    def read(self) -> str:
        """Go through all of it."""
        while self._at < len(self._line):
            match = self._pattern.match(self._line, self._at)
            if match is not None and (found := self._put(match)) is not None:
                self._at = match.end()
                self._made.append(self._variable(match[0], found[0]) if found[1] else found[0])
            else:
                self._step()
        return "".join(self._made)

    def _variable(self, written: str, name: str) -> str:
        if not self._known:
            raise Unfit(f"how this shell quotes {written} is not known: put it into env and use that")
        match self._open[-1]:
            case "'":
                return f"'\"${name}\"'"
            case "$'":
                return f"'\"${name}\"$'"
            case '"':
                return f"${{{name}}}"
            case _:
                return f'"${name}"'

    def _step(self) -> None:
        line, at, state = self._line, self._at, self._open[-1]
        char = line[at]
        if state == "'":
            if char == "'":
                self._open.pop()
            return self._take(1)
        if char == "\\":
            return self._take(2)
        if state == "$'":
            if char == "'":
                self._open.pop()
            return self._take(1)
        if line.startswith("$((", at):
            self._open.append("((")
            return self._take(3)
        if line.startswith("$(", at):
            self._open.append("(")
            return self._take(2)
        if state == "((" and line.startswith("))", at):
            self._open.pop()
            return self._take(2)
        if char == "`":
            self._toggle("`")
            return self._take(1)
        if char == '"':
            self._toggle('"')
            return self._take(1)
        if state == '"':
            return self._take(1)
        return self._outside(char)

    def _outside(self, char: str) -> None:
        line, at = self._line, self._at
        match char:
            case "'":
                self._open.append("$'" if line[at - 1 : at] == "$" else "'")
            case "(" if line.startswith("((", at):
                self._open.append("((")
                return self._take(2)
            case "(":
                self._open.append("(")
            case ")" if self._open[-1] == "(":
                self._open.pop()
            case "#" if at == 0 or line[at - 1] in " \t\n;&|(":
                end = line.find("\n", at)
                return self._take((len(line) if end < 0 else end) - at)
            case "<" if self._open[-1] == "((":
                pass
            case "<" if not line.startswith("<<<", at) and (here := _HERE.match(line, at)):
                word = here[2] or here[3] or here[4]
                literal = here[4] is None or "\\" in here[0]
                self._here.append((word, bool(here[1]), literal))
                return self._take(len(here[0]))
            case "<" if line.startswith("<<<", at):
                return self._take(3)
            case "\n" if self._here:
                self._take(1)
                return self._documents()
            case _:
                pass
        return self._take(1)

    def _documents(self) -> None:
        """Here-documents begin on the line after the one that names them."""
        for word, tabs, literal in self._here:
            while self._at < len(self._line):
                end = self._line.find("\n", self._at)
                end = len(self._line) if end < 0 else end + 1
                row = self._line[self._at : end]
                bare = row.rstrip("\n")
                if (bare.lstrip("\t") if tabs else bare) == word:
                    self._take(len(row))
                    break
                self._row(row, literal)
                self._at = end
        self._here = []

    def _row(self, row: str, literal: bool) -> None:
        def put(match: re.Match[str]) -> str:
            found = self._put(match)
            if found is None:
                return match[0]
            if not found[1]:
                return found[0]
            if literal or not self._known:
                raise Unfit(f"{match[0]} stands in a quoted here-document, where no variable is seen")
            return f"${{{found[0]}}}"

        self._made.append(self._pattern.sub(put, row))

    def _toggle(self, quote: str) -> None:
        if self._open[-1] == quote:
            self._open.pop()
        else:
            self._open.append(quote)

    def _take(self, count: int) -> None:
        self._made.append(self._line[self._at : self._at + count])
        self._at += count


def quoted(line: str, shell: str, pattern: re.Pattern[str], put: Put) -> str:
    """Put variables into a line, each quoted as its place needs it."""
    known = shell.rsplit("/", 1)[-1].split()[0:1]
    return _Reader(line, bool(known) and known[0] in SHELLS, pattern, put).read()
