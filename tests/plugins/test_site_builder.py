"""The site builder without a node: what it writes, what it leaves alone, and where it goes on."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from links import broken

from actors.plugin import Cancelled, Context
from plugins.site_builder import BuildResult, SectionJobData, SiteBuildJobData, SiteConfig
from plugins.site_builder.build import build
from plugins.site_builder.pages import slug
from plugins.site_builder.sections import MARK, make, sections

ROOT = Path(__file__).parents[2]


class Port:
    """What a worker is for a context; `stop` ends the job after so many routes."""

    def __init__(self, stop: int | None = None) -> None:
        self.cancelled = False
        self.told: list[tuple[Any, ...]] = []
        self.lines: list[str] = []
        self.kept: dict[str, Any] = {}
        self._stop = stop

    def progress(
        self, message: str | None, current: float | None, total: float | None, unit: str | None
    ) -> None:
        if self._stop is not None and len(self.told) >= self._stop:
            raise SystemExit
        self.told.append((message, current, total, unit))

    def write(self, text: str) -> None:
        self.lines.append(text)

    def recall(self, name: str) -> tuple[bool, Any]:
        return name in self.kept, self.kept.get(name)

    def remember(self, name: str, value: Any) -> Any:
        return self.kept.setdefault(name, value)


class Nobody:
    def request(self, kind: str, verb: str, body: Any, timeout: float) -> "Future[dict[str, Any]]":
        raise AssertionError(f"a build asks for nothing, not for {kind}.{verb}({body}) within {timeout} s")


def context(port: Port, job: str = "exec_1") -> Context:
    return Context("site-builder", Nobody(), job, "site-builder:site-build", 1, port, lambda: None)


def built(
    folder: Path, output: Path, *, job: str = "exec_1", port: Port | None = None, **more: Any
) -> BuildResult:
    data = SiteBuildJobData(str(output), working_dir=str(folder), **more)
    return build(data, context(port or Port(), job))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "guides").mkdir(parents=True)
    (folder / "index.md").write_text(
        "# Home & garden\n\nAll of it.\n\n- [about](about.md)\n- [first](guides/)\n"
    )
    (folder / "about.md").write_text(
        "# About\n\nSee [why](guides/first.md#why-not), [home](./index.md), [picture](pic.svg), <https://example.org>.\n\n"
        "![picture](pic.svg)\n\n```python\nprint(1)\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n"
    )
    (folder / "guides" / "first.md").write_text(
        "# First\n\n## Why not?\n\n[up](/about.md) [here](#why-not)\n"
    )
    (folder / "pic.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


def test_a_site_is_built_whose_links_all_lead_somewhere(docs: Path, tmp_path: Path) -> None:
    port, site = Port(), tmp_path / "dist"
    result = built(docs, site, port=port)
    assert result == BuildResult(True, 4, [], [], str(site))
    assert [said[0] for said in port.told] == [
        "Building route: /about",
        "Building route: /",
        "Building route: /guides/first",
        "Building route: /guides/",
        "Built 4 routes",
    ]
    assert [said[1:3] for said in port.told] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert not broken(site)
    about = (site / "about.html").read_text()
    assert "<title>About · Home &amp; garden</title>" in about
    assert 'href="guides/first.html#why-not"' in about
    assert '<span class="nb">print</span>' in about
    assert (site / "pic.svg").read_bytes() == (docs / "pic.svg").read_bytes()
    assert 'href="../about.html"' in (site / "guides" / "first.html").read_text()


def test_a_link_checker_that_finds_nothing_would_be_of_no_use(docs: Path, tmp_path: Path) -> None:
    site = tmp_path / "dist"
    built(docs, site)
    (site / "bad.html").write_text(
        "<a href='no.html'></a><a href='about.html#no'></a><img src='no.png'><a href='../docs/pic.svg'></a>"
    )
    assert len(broken(site)) == 4


def test_the_documentation_of_this_project_becomes_a_site(tmp_path: Path) -> None:
    site = tmp_path / "dist"
    result = built(ROOT / "docs", site)
    assert result.success, result.errors
    assert result.routes_built > 35
    assert result.warnings == ["living-with-change.md: the link ../CHANGELOG.md leads nowhere"]
    assert not broken(site)


def test_links_that_lead_nowhere_become_text_and_are_told(docs: Path, tmp_path: Path) -> None:
    (docs / "bad.md").write_text("# Bad\n\n[a](no.md) ![b](no.png) [c](../x.md) [d](about.md#no) [e](#no)\n")
    result = built(docs, tmp_path / "dist")
    assert result.success
    assert len(result.warnings) == 5
    assert not broken(tmp_path / "dist")
    config = SiteConfig(repository="https://example.org/blob/main")
    again = built(docs, tmp_path / "dist", job="exec_2", site_config=config)
    assert len(again.warnings) == 4
    assert 'href="https://example.org/blob/main/x.md"' in (tmp_path / "dist" / "bad.html").read_text()


def test_it_goes_on_at_the_first_page_that_is_not_written(docs: Path, tmp_path: Path) -> None:
    site = tmp_path / "dist"
    with pytest.raises(SystemExit):
        built(docs, site, port=Port(stop=2))
    first = {path.name: path.stat().st_ino for path in site.rglob("*.html")}
    assert sorted(first) == ["about.html", "index.html"]
    port = Port()
    result = built(docs, site, port=port)
    assert result.success
    assert result.routes_built == 4
    assert port.told[0][0] == "Building route: /guides/first"
    assert {name: (site / name).stat().st_ino for name in first} == first
    assert not broken(site)


def test_a_new_build_takes_away_what_is_no_page_any_more(docs: Path, tmp_path: Path) -> None:
    site = tmp_path / "dist"
    built(docs, site)
    (docs / "guides" / "first.md").unlink()
    (docs / "index.md").write_text("# Home\n")
    (site / "mine.txt").write_text("not of a build")
    assert built(docs, site, job="exec_2", clean=False).success
    assert (site / "guides" / "first.html").exists()
    with pytest.raises(SystemExit):
        built(docs, site, job="exec_3", port=Port(stop=1))
    assert built(docs, site, job="exec_4").success
    assert not (site / "guides").exists()
    assert (site / "mine.txt").exists()


def test_files_that_no_build_has_written_are_left_alone(docs: Path, tmp_path: Path) -> None:
    site = tmp_path / "home"
    site.mkdir()
    (site / "letters.txt").write_text("dear")
    result = built(docs, site)
    assert not result.success
    assert "holds files that no build has written" in result.errors[0]
    assert sorted(path.name for path in site.iterdir() if path.name[0] != ".") == ["letters.txt"]
    assert built(docs, site, clean=False).success
    assert (site / "letters.txt").read_text() == "dear"


def test_nothing_is_written_or_read_outside(docs: Path, tmp_path: Path) -> None:
    site, other = tmp_path / "dist", tmp_path / "other"
    other.mkdir()
    (other / "secret.txt").write_text("secret")
    (docs / "leak.txt").symlink_to(other / "secret.txt")
    site.mkdir()
    (site / "guides").symlink_to(other)
    (site / ".about.html.part").symlink_to(other / "secret.txt")
    result = built(docs, site, clean=False)
    assert not result.success
    assert len(result.errors) == 2
    assert "leak.txt: left out" in result.warnings[0]
    assert not (site / "leak.txt").exists()
    assert [path.name for path in other.iterdir()] == ["secret.txt"]
    assert (other / "secret.txt").read_text() == "secret"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"working_dir": "/no/such/folder"}, "there is no folder /no/such/folder"),
        ({"output_dir": "{docs}"}, "build into a folder of its own"),
        ({"output_dir": "{docs}/.."}, "build into a folder of its own"),
    ],
)
def test_what_cannot_be_built_is_said(docs: Path, tmp_path: Path, change: dict[str, str], text: str) -> None:
    given = {"output_dir": str(tmp_path / "dist"), "working_dir": str(docs)} | {
        name: value.format(docs=docs) for name, value in change.items()
    }
    result = build(SiteBuildJobData(**given), context(Port()))  # type: ignore[arg-type] -- texts only
    assert not result.success
    assert text in result.errors[0]


def test_a_page_that_cannot_be_read_is_an_error_and_the_others_are_built(docs: Path, tmp_path: Path) -> None:
    (docs / "odd.md").write_bytes(b"# \xff\xfe\n")
    result = built(docs, tmp_path / "dist")
    assert not result.success
    assert "odd.md" in result.errors[0]
    assert (tmp_path / "dist" / "about.html").exists()


def test_a_build_that_is_cancelled_stops_between_pages(docs: Path, tmp_path: Path) -> None:
    port = Port()
    port.cancelled = True
    with pytest.raises(Cancelled):
        built(docs, tmp_path / "dist", port=port)


def test_what_a_site_says_of_itself(docs: Path, tmp_path: Path) -> None:
    (docs / "site.toml").write_text(
        'title = "Mine"\nbaseUrl = "https://example.org/d/"\nnavigation = ["/guides/", "/about"]\n'
    )
    site = tmp_path / "dist"
    assert built(docs, site).success
    home = (site / "index.html").read_text()
    assert '<link rel="canonical" href="https://example.org/d/">' in home
    assert "<loc>https://example.org/d/guides/first</loc>" in (site / "sitemap.xml").read_text()
    assert "· Mine</title>" in home
    assert not (site / "site.toml").exists()
    (docs / "site.toml").write_text('titel = "x"\n')
    assert "titel" in built(docs, site, job="exec_2").errors[0]


def test_a_landing_page_is_made_of_its_sections(docs: Path, tmp_path: Path) -> None:
    assert sections("landing") == ["hero", "features", "cta"]
    for name in sections("landing"):
        made = make(SectionJobData("landing", name, working_dir=str(docs)))
        assert made.written
    assert built(docs, tmp_path / "dist").success
    page = (tmp_path / "dist" / "landing.html").read_text()
    assert '<h1 id="home--garden">Home &amp; garden</h1>' in page
    assert page.index("All of it.") < page.index("What there is") < page.index("is the place to start")
    assert not broken(tmp_path / "dist")


def test_a_section_that_somebody_changed_is_not_made_again(docs: Path) -> None:
    file = Path(make(SectionJobData("landing", "hero", working_dir=str(docs))).file)
    assert file.read_text().startswith(MARK)
    file.write_text("# Mine\n")
    assert not make(SectionJobData("landing", "hero", working_dir=str(docs))).written
    assert file.read_text() == "# Mine\n"


@pytest.mark.parametrize(("page", "section"), [("nothing", "hero"), ("landing", "nothing"), ("..", "hero")])
def test_an_unknown_section_is_refused(docs: Path, page: str, section: str) -> None:
    with pytest.raises(ValueError, match="landing"):
        make(SectionJobData(page, section, working_dir=str(docs)))


@pytest.mark.parametrize(
    ("text", "name"), [("Why not?", "why-not"), ("`a.b` & c", "ab--c"), ("Über uns", "über-uns")]
)
def test_headings_are_called_as_everywhere(text: str, name: str) -> None:
    assert slug(text) == name
