"""Code comes in many languages, and each has its own way of being told what to run.

Short code goes along as an argument.  Code that is long (one argument of a Linux program holds 128 KiB),
empty, or has a NUL in it is written to a file first, and so is all code for interpreters that take none as an
argument.  Standard input is never used for the code: it belongs to whoever gave the command.
"""

import difflib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from events.errors import Validation

ARGUMENT_BYTES = 100 * 1024  # from this size on code goes into a file; MAX_ARG_STRLEN of Linux is 131,072


@dataclass(frozen=True, slots=True)
class Language:
    """One row of the table.

    `programs` are candidates, the first found on PATH is taken.  `inline` and `filed` are the arguments
    around the code and around the path of its file; `{}` stands for it.  A file begins with `opening` unless
    the code does; code that does is never given as an argument.  `version` are the arguments that make it
    tell its version, none if it cannot.
    """

    name: str
    programs: tuple[str, ...]
    suffix: str
    inline: tuple[str, ...] | None
    filed: tuple[str, ...] = ("{}",)
    aliases: tuple[str, ...] = ()
    version: tuple[str, ...] = ("--version",)
    opening: str = ""

    @property
    def program(self) -> str | None:
        """The path of the first candidate that is on this machine; None when none is."""
        return next((path for path in map(shutil.which, self.programs) if path), None)


_SHELL = ("-c", "--", "{}")  # without -- code that begins with a dash would be read as options

TABLE = (
    Language("python", (sys.executable,), ".py", ("-c", "{}"), aliases=("py", "python3")),
    Language("bash", ("bash",), ".sh", _SHELL),
    Language("sh", ("sh",), ".sh", _SHELL, aliases=("shell", "posix"), version=()),
    Language("zsh", ("zsh",), ".zsh", _SHELL),
    Language("fish", ("fish",), ".fish", ("-c", "{}")),
    # `node -e CODE` takes code that begins with a dash for another option.
    Language("node", ("node", "nodejs"), ".js", ("--eval={}",), aliases=("javascript", "js", "nodejs")),
    Language("perl", ("perl",), ".pl", ("-e", "{}"), aliases=("pl",)),
    Language("ruby", ("ruby",), ".rb", ("-e", "{}"), aliases=("rb",)),
    Language("php", ("php",), ".php", ("-r", "{}"), opening="<?php "),
    # `lua -e CODE` takes code that begins with a dash (a comment does) for another option.
    Language("lua", ("lua", "lua5.4", "lua5.3", "luajit"), ".lua", ("-e{}",), version=("-v",)),
    Language("awk", ("awk", "gawk", "mawk"), ".awk", ("--", "{}"), ("-f", "{}"), version=()),
    Language(
        "tcl",
        ("tclsh", "tclsh8.6"),
        ".tcl",
        None,  # it reads code from a file or from standard input only
        aliases=("tclsh",),
        version=(),
    ),
    # Rscript rewrites the blanks of -e.
    Language("r", ("Rscript",), ".R", None, aliases=("rscript",)),
)
_BY_NAME = {name: row for row in TABLE for name in (row.name, *row.aliases)}


def find(language: str) -> Language:
    """Find a language by name or alias, in any case; raises `Validation` with what is known and near."""
    wanted = language.strip().lower()
    row = _BY_NAME.get(wanted)
    if row is None:
        known = [row.name for row in TABLE]
        near = difflib.get_close_matches(wanted, _BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise Validation(
            f"unknown language {language!r}; {hint}",
            language=language,
            known=known,
            did_you_mean=near[0] if near else None,
        )
    return row


def available() -> dict[str, str]:
    """List the languages that can be run on this machine, with the paths of their programs."""
    return {row.name: program for row in TABLE if (program := row.program)}


def runs(language: str) -> bool:
    """Whether code in this language, known by its name, can be run on this machine."""
    row = _BY_NAME.get(language)
    return row is not None and row.program is not None


def argv(language: Language | str, code: str, write: Callable[[str, bytes], Path | str]) -> list[str]:
    """Say which program to run with which arguments.

    `write(suffix, content)` is called when a file is needed and returns its path; it decides on the folder,
    and on who removes it.  A program that is not on this machine is named all the same: starting it fails.
    Raises `Validation` for an unknown language, or code that is no text.
    """
    row = find(language) if isinstance(language, str) else language
    try:
        content = code.encode()
    except UnicodeEncodeError as error:
        raise Validation(f"the code is no text: {error}", language=row.name) from error
    program = row.program or row.programs[0]
    opened = bool(row.opening) and code.lstrip().startswith(row.opening.strip())
    if row.inline is None or opened or not content or len(content) > ARGUMENT_BYTES or b"\0" in content:
        path = str(write(row.suffix, content if opened else row.opening.encode() + content))
        return [program, *(part.replace("{}", path) for part in row.filed)]
    return [program, *(part.replace("{}", code) for part in row.inline)]
