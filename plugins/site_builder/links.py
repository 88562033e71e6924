"""Links between files become links between pages; what leads nowhere becomes plain text, and is told."""

import posixpath
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

from markdown_it.token import Token

from plugins.site_builder.pages import SECTIONS, Found, Page


class Links:
    """The links of one page."""

    def __init__(self, page: Page, found: Found, repository: str, base: str) -> None:
        """Prepare; `base` is the name of the folder in its repository."""
        self._page, self._found, self._base = page, found, base
        self._repository = repository.rstrip("/")
        self._assets = set(found.assets)
        self.warnings: list[str] = []

    def rewrite(self, folder: str, tokens: Iterable[Token]) -> None:
        """Change the links of a part whose links count from `folder` on."""
        for token in tokens:
            for each in token.children or ():
                name = {"link_open": "href", "image": "src"}.get(each.type)
                if name is not None:
                    self._change(folder, each, name)

    def to(self, page: Page) -> str:
        """The address of another page, from this one."""
        return self.address(page.target)

    def address(self, target: str) -> str:
        """The address of a file of the site, from this page."""
        return quote(posixpath.relpath(target, self._page.folder or "."))

    def _change(self, folder: str, token: Token, name: str) -> None:
        given = str(token.attrGet(name) or "")
        found = self._found_address(folder, given)
        if found is not None:
            token.attrSet(name, found)
            return
        self.warnings.append(f"{self._page.source}: the link {given} leads nowhere")
        if token.type == "image":
            token.type, token.tag, token.content = "text", "", token.content or given
            token.children = None
        else:
            # A span is closed by the same token that would have closed the link.
            token.attrs = {}

    def _found_address(self, folder: str, given: str) -> str | None:
        parts = urlsplit(given)
        if parts.scheme or parts.netloc:
            return given
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        if not parts.path:
            return self._pointed(self._page, parts.fragment, fragment)
        path = unquote(parts.path)
        path = path.lstrip("/") if path.startswith("/") else posixpath.join(folder, path)
        path = posixpath.normpath(path) if path else ""
        path = "" if path == "." else path
        if page := self._called(path):
            return self._pointed(page, parts.fragment, self.to(page) + fragment)
        if path in self._assets:
            return self.address(path)
        if path.startswith("../") and self._repository:
            outside = posixpath.normpath(posixpath.join(self._base, path))
            return f"{self._repository}/{quote(outside)}{fragment}" if not outside.startswith("..") else None
        return None

    def _called(self, path: str) -> Page | None:
        pages = self._found.pages
        names = (path, f"{path}.md", f"{path.removesuffix('.html')}.md", f"{SECTIONS}/{path}")
        return next((pages[name] for name in names if name in pages), None)

    def _pointed(self, page: Page, fragment: str, address: str) -> str | None:
        if not fragment or unquote(fragment) in page.ids:
            return address
        self.warnings.append(f"{self._page.source}: nothing in {page.source} is called #{fragment}")
        return address.partition("#")[0] or self.address(page.target)
