"""Builds a static site from a folder of Markdown: one route at a time, resumable, never outside its folder.

    hindbrain build-site --output-dir ./dist
    hindbrain generate --page landing

`site-build` writes the pages, `content-generation` one section of a page out of what the site says of itself.
"""

from typing import Annotated, Any

import msgspec

from actors.plugin import Context, Plugin, PluginContext, Retries

Folder = Annotated[str, msgspec.Meta(extra_json_schema={"format": "path"})]
WORKING = "docs"

plugin = Plugin(
    "site-builder",
    version="1.0",
    description="Builds a static site from a folder of Markdown.",
    workers=1,
    idle_seconds=30,
)


class SiteConfig(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What a site says of itself; `site.toml` in its folder holds the same."""

    title: str = ""
    """That of its first page when left out."""
    description: str = ""
    base_url: str = ""
    """Where it will be found; with it there are canonical links and a sitemap."""
    repository: str = ""
    """Where links go that lead out of the folder; without it they become plain text."""
    language: str = "en"
    navigation: list[str] = []
    """Routes in the order in which they are listed; the others follow by name."""


class SiteBuildJobData(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What to build, and where."""

    output_dir: Annotated[Folder, msgspec.Meta(description="Where the site is written.")]
    site_config: SiteConfig | None = None
    working_dir: Annotated[Folder, msgspec.Meta(description="The folder of Markdown.")] = WORKING
    clean: Annotated[bool, msgspec.Meta(description="Take away what a build before left there.")] = True


class BuildResult(msgspec.Struct, rename="camel", omit_defaults=False):
    """What came of a build; `success` means that there are no errors."""

    success: bool
    routes_built: int
    errors: list[str]
    warnings: list[str]
    output_dir: str


class SectionJobData(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which section of which page to make."""

    page: str
    section: str
    working_dir: Folder = WORKING
    site_config: SiteConfig | None = None


class SectionResult(msgspec.Struct, rename="camel", omit_defaults=False):
    """A section that was made; `written` is false for one that somebody has changed by hand."""

    page: str
    section: str
    file: str
    written: bool


class BuildSite(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Build the site of a folder."""

    output_dir: Annotated[Folder, msgspec.Meta(description="Where the site is written.")]
    clean: Annotated[bool, msgspec.Meta(description="Take away what a build before left there.")] = True
    working_dir: Annotated[Folder, msgspec.Meta(description="The folder of Markdown.")] = WORKING


class Generate(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Make the sections of a page."""

    page: Annotated[str, msgspec.Meta(description="Which page: landing.")]
    working_dir: Annotated[Folder, msgspec.Meta(description="The folder of Markdown.")] = WORKING


@plugin.job("site-build", visibility="trusted", retries=Retries(max=3, backoff_ms=100))
def site_build(data: SiteBuildJobData, context: Context) -> BuildResult:
    """Write every route; a restart goes on at the first one that is not written yet."""
    from plugins.site_builder.build import build

    return build(data, context)


@plugin.job("content-generation", visibility="trusted")
def content_generation(data: SectionJobData, context: Context) -> SectionResult:
    """Make one section of a page out of what the site says of itself."""
    from plugins.site_builder.sections import make

    context.progress(f"Generating {data.page}:{data.section}", 0, 1)
    made = make(data)
    context.progress(f"Generated {data.page}:{data.section}", 1, 1)
    return made


def generate(given: Generate, context: PluginContext) -> dict[str, Any]:
    """Queue one job for each section of a page; answers at once."""
    from plugins.site_builder.build import working
    from plugins.site_builder.sections import sections

    names, folder = sections(given.page), str(working(given.working_dir))
    items = [{"page": given.page, "section": name, "workingDir": folder} for name in names]
    batch = context.enqueue_batch(
        "content-generation",
        items,
        said="Generating ${item.page}:${item.section}",
        description="Generating sections",
    ).result(20)
    return {name: batch[name] for name in ("status", "batchId", "message", "tip")}


plugin.tool(
    "build-site",
    "Build a static site from a folder of Markdown",
    job="site-build",
    schema=BuildSite,
    visibility="admin",
    message="Site build queued",
    tip="Use the status tool to check build progress",
)
plugin.tool(
    "generate",
    "Generate the sections of a page of the site",
    handler=generate,
    schema=Generate,
    visibility="trusted",
)
