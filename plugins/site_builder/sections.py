"""Sections of a page, made of templates and of what the site says of itself; people go on from there."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from plugins.site_builder import SectionJobData, SectionResult
from plugins.site_builder.build import read_config, working
from plugins.site_builder.pages import SECTIONS, find, plain

MARK = "<!-- Made by generate, and made again by it until this line is removed. -->"
PACKAGE = "plugins.site_builder"


class Entry(NamedTuple):
    """A page that a section may speak of; texts as Markdown shows them unchanged."""

    title: str
    summary: str
    link: str


def sections(page: str) -> list[str]:
    """The sections of a page, in their order; `ValueError` says which pages there are."""
    return [name.partition("-")[2].removesuffix(".md") for name in _templates(page)]


def _templates(page: str) -> list[str]:
    root = resources.files(PACKAGE) / "templates"
    pages = {each.name: each for each in root.iterdir() if each.is_dir()}
    if page not in pages:
        raise ValueError(f"there is no page {page!r} to generate, there are: {', '.join(sorted(pages))}")
    return sorted(each.name for each in pages[page].iterdir() if each.name.endswith(".md"))


def make(data: SectionJobData) -> SectionResult:
    """Write one section, unless somebody has made it their own."""
    known = sections(data.page)
    if data.section not in known:
        raise ValueError(f"{data.page} has no section {data.section!r}, it has: {', '.join(known)}")
    folder = working(data.working_dir)
    name = _templates(data.page)[known.index(data.section)]
    target = folder / SECTIONS / data.page / name
    written = not target.exists() or target.read_text(encoding="utf-8").startswith(MARK)
    if written:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.part")
        part.write_text(f"{MARK}\n\n{_text(data, folder, name)}", encoding="utf-8")
        part.replace(target)
    return SectionResult(data.page, data.section, str(target), written)


def _text(data: SectionJobData, folder: Path, name: str) -> str:
    config = data.site_config or read_config(folder)
    found = find(folder, folder)
    top = [page for page in found.routes if not page.folder and not page.source.startswith(SECTIONS)]
    groups = [page for page in found.routes if page.target == f"{page.folder}/index.html"]
    entries = [
        Entry(plain(page.title), plain(page.summary), f"/{page.source}")
        for page in [*top, *groups]
        if page.source and "/" not in page.folder
    ]
    first = next((page for page in top if page.target == "index.html"), top[0])
    template = Environment(  # noqa: S701 -- it makes Markdown of texts that are escaped for that
        loader=PackageLoader(PACKAGE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    ).get_template(f"{data.page}/{name}")
    return template.render(
        title=plain(config.title or first.title),
        description=plain(config.description or first.summary),
        pages=[entry for entry in entries if entry.link != f"/{first.source}"],
    )
