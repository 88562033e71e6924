"""Looks at a folder of HTML as a browser would follow it: every address of its own leads to something."""

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            elif name in ("href", "src") and value is not None and (tag, name) != ("link", "canonical"):
                self.addresses.append(value)


def broken(site: Path) -> list[str]:
    """Every address of the site's own that leads nowhere, with the page it stands on."""
    pages = {path.relative_to(site).as_posix(): _Page(path.read_text()) for path in site.rglob("*.html")}
    assert pages
    found: list[str] = []
    for name, page in pages.items():
        found += [f"{name}: id {each} twice" for each in set(page.ids) if page.ids.count(each) > 1]
        for address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            place = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            target = name if not parts.path else place
            if not (site / target).is_file() or target.startswith(".."):
                found.append(f"{name}: {address}")
            elif parts.fragment and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{name}: {address} has no such place")
    return found
