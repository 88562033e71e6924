"""How pages look: the template, the navigation, the style."""

import html
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pygments.formatters import HtmlFormatter

from plugins.site_builder import SiteConfig
from plugins.site_builder.links import Links
from plugins.site_builder.pages import MARKDOWN, Found, Page

STYLE = "style.css"
PACKAGE = "plugins.site_builder"
DARK = "@media (prefers-color-scheme: dark)"


class Theme:
    """Puts pages into the template."""

    def __init__(self, config: SiteConfig, found: Found) -> None:
        self._config = config
        self._base = config.base_url.rstrip("/")
        environment = Environment(
            loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._template = environment.get_template("page.html")
        routes = sorted(found.routes, key=self._order)
        self._title = config.title or found.pages[""].title
        folders = dict.fromkeys(page.folder for page in sorted(routes, key=lambda page: page.folder != ""))
        self._groups = [[page for page in routes if page.folder == folder] for folder in folders]

    def _order(self, page: Page) -> tuple[int, str]:
        named = self._config.navigation
        index = page.target.endswith("index.html")
        place = named.index(page.route) if page.route in named else len(named)
        return (-1 if page.route == "/" else place, "" if index and not page.folder else page.target)

    def page(self, page: Page, links: Links) -> str:
        """One page as it is written."""
        parts: list[str] = []
        for folder, tokens in page.tokens:
            links.rewrite(folder, tokens)
            parts.append(MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}))
        return self._template.render(
            site=self._config,
            site_title=self._title,
            title=page.title,
            description=page.summary or self._config.description,
            canonical=f"{self._base}{page.route}" if self._base else "",
            style=links.address(STYLE),
            home=links.address("index.html"),
            groups=[self._group(each, page, links) for each in self._groups],
            content=Markup("\n".join(parts)),  # noqa: S704 -- made of Markdown by its renderer
        )

    def _group(self, group: list[Page], page: Page, links: Links) -> dict[str, Any]:
        first = next((each for each in group if each.target.endswith("index.html")), None)
        rest = [each for each in group if each is not first or not each.folder]
        return {
            "title": first.title if first is not None and first.folder else "",
            "href": links.to(first) if first is not None else "",
            "open": page in group,
            "pages": [(each.title, links.to(each), each is page) for each in rest],
        }

    def files(self, pages: list[Page]) -> dict[str, str]:
        """What a site has beside its pages."""
        text = (resources.files(PACKAGE) / "templates" / STYLE).read_text(encoding="utf-8")
        made = {STYLE: f"{text}{_colours('default')}\n{DARK} {{\n{_colours('github-dark')}\n}}\n"}
        if self._base:
            places = [html.escape(self._base + page.route) for page in pages]
            rows = "".join(f"<url><loc>{place}</loc></url>\n" for place in places)
            made["sitemap.xml"] = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{rows}</urlset>\n'
            )
        return made


def _colours(style: str) -> str:
    formatter: Any = HtmlFormatter[str](style=style)
    return str(formatter.get_style_defs("pre code"))
