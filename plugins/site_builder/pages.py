"""The pages of a site: which there are, where each goes, and what can be pointed at in it."""

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name  # type: ignore[reportUnknownVariableType] -- half typed
from pygments.util import ClassNotFound

SECTIONS = "_pages"
"""Each folder in here is one page, made of its files in the order of their names."""
INDEXES = ("index.md", "README.md")
SUMMARY = 200


@dataclass(slots=True)
class Page:
    """One route."""

    source: str
    """Its file, or the folder of its parts, from the folder of the site on."""
    target: str
    """Where it is written, from the output folder on."""
    tokens: list[tuple[str, list[Token]]]
    """Its parts, each with the folder from which its links count."""
    title: str = ""
    summary: str = ""
    ids: set[str] = field(default_factory=set[str])

    @property
    def route(self) -> str:
        """How it is called: `/about`, and `/` for the first page."""
        return "/" + self.target.removesuffix(".html").removesuffix("index")

    @property
    def folder(self) -> str:
        """The folder it is in; empty at the top."""
        return posixpath.dirname(self.target)


@dataclass(slots=True)
class Found:
    """All that is in a folder."""

    pages: dict[str, Page]
    """By what a link may call it: its file, and its folder when it is the index of that."""
    assets: list[str]
    errors: list[str]
    warnings: list[str]

    @property
    def routes(self) -> list[Page]:
        """Every page once, in the order in which they are written."""
        unique = {page.target: page for page in self.pages.values()}
        return sorted(unique.values(), key=lambda page: (page.folder, page.target))


def find(folder: Path, output: Path) -> Found:
    """Read all pages of a folder; what is hidden, linked from elsewhere or output is no part of it."""
    found = Found({}, [], [], [])
    files = list(_files(folder, output, found))
    names = set(files)
    for name in files:
        if not name.endswith(".md"):
            found.assets.append(name)
            continue
        base, last = posixpath.split(name)
        index = next(each for each in (*INDEXES, last) if posixpath.join(base, each) in names)
        target = "index.html" if last == index and last in INDEXES else last[:-3] + ".html"
        _add(found, folder, Page(name, posixpath.join(base, target), []), [name])
    _add_composed(found, folder)
    _add_lists(found)
    taken = {page.target for page in found.pages.values()}
    for name in [name for name in found.assets if name in taken]:
        found.warnings.append(f"{name}: left out, a page is written there")
        found.assets.remove(name)
    return found


def _files(folder: Path, output: Path, found: Found) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        place = Path(where)
        folders[:] = sorted(name for name in folders if name[0] not in "._" and place / name != output)
        for name in sorted(files):
            path = place / name
            if name[0] in "._" or path == folder / "site.toml":
                continue
            if path.resolve().is_relative_to(folder):
                yield path.relative_to(folder).as_posix()
            else:
                found.warnings.append(f"{path.relative_to(folder)}: left out, it leads out of {folder}")


def _add(found: Found, folder: Path, page: Page, parts: Sequence[str]) -> None:
    for name in parts:
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            found.errors.append(f"{name}: cannot be read: {error}")
            return
        page.tokens.append((posixpath.dirname(name), MARKDOWN.parse(text)))
    _describe(page)
    found.pages[page.source] = page
    if posixpath.basename(page.target) == "index.html":
        found.pages[page.folder] = page


def _add_composed(found: Found, folder: Path) -> None:
    """A page of several sections."""
    for place in sorted((folder / SECTIONS).glob("[!._]*/")):
        parts = sorted(path.relative_to(folder).as_posix() for path in place.glob("[!._]*.md"))
        target = "index.html" if place.name == "index" else f"{place.name}.html"
        if any(page.target == target for page in found.pages.values()):
            found.errors.append(f"{SECTIONS}/{place.name}: there is a page of that name already")
        elif parts:
            _add(found, folder, Page(f"{SECTIONS}/{place.name}", target, []), parts)


def _add_lists(found: Found) -> None:
    """A folder without an index gets a list of what is in it."""
    names = [*found.assets, *(page.target for page in found.pages.values())]
    folders = {""} | {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    for folder in sorted(folders - {"."}, reverse=True):
        if folder in found.pages:
            continue
        inside = [
            (page.title, page.source if page.folder == folder else page.folder)
            for page in found.routes
            if posixpath.dirname(page.target.removesuffix("/index.html")) == folder
        ]
        files = [name for name in found.assets if posixpath.dirname(name) == folder]
        inside += [(posixpath.basename(name), name) for name in files]
        title = posixpath.basename(folder).replace("-", " ").replace("_", " ").capitalize() or "Contents"
        lines = [f"- [{plain(text)}](</{name}>)" for text, name in inside]
        page = Page(folder, posixpath.join(folder, "index.html"), [])
        page.tokens.append((folder, MARKDOWN.parse("\n".join([f"# {title}", "", *lines]))))
        _describe(page)
        found.pages[folder] = page


def plain(text: str) -> str:
    """Text as Markdown shows it unchanged."""
    return re.sub(r"([\\\[\]`*_<>&])", r"\\\1", text)


def _describe(page: Page) -> None:
    """Find title and summary, and give every heading its id."""
    for _, tokens in page.tokens:
        for at, token in enumerate(tokens):
            if token.type == "heading_open":
                text = _text(tokens[at + 1])
                token.attrSet("id", _unique(slug(text), page.ids))
                page.title = page.title or text
            elif token.type == "paragraph_open" and page.title and not page.summary and token.level == 0:
                page.summary = _cut(_text(tokens[at + 1]))
    page.title = page.title or posixpath.basename(page.source).removesuffix(".md")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SUMMARY else text[:SUMMARY].rpartition(" ")[0] + " ..."


def _text(inline: Token) -> str:
    """What is read of a line of Markdown."""
    parts = [" " if each.type.endswith("break") else each.content for each in inline.children or ()]
    return "".join(parts).strip()


def slug(text: str) -> str:
    """The id of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _unique(name: str, taken: set[str]) -> str:
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}-{count}"
    taken.add(found)
    return found


def _coloured(code: str, language: str, _: str) -> str:
    """Code with its colours; nothing, which leaves it as it is, for a language that nobody knows."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return ""
    return highlight(code, lexer, HtmlFormatter[str](nowrap=True))


OPTIONS: dict[str, Any] = {"highlight": _coloured}
MARKDOWN = MarkdownIt("commonmark", OPTIONS).enable(["table", "strikethrough"])
