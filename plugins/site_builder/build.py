"""Writing a site: one route at a time, each at once as a whole, going on where an attempt before stopped."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from actors.plugin import Context
from plugins.site_builder import BuildResult, SiteBuildJobData, SiteConfig
from plugins.site_builder.links import Links
from plugins.site_builder.pages import Found, Page, find
from plugins.site_builder.theme import Theme

log = logging.getLogger(__name__)

RECORD, LOCK, CONFIG = ".site-build", ".site-build.lock", "site.toml"


class Unfit(ValueError):
    """There is nothing that could be built, or no place for it."""


def build(data: SiteBuildJobData, context: Context) -> BuildResult:
    """Build a site; what is wrong with it stands in the result."""
    log.info("site build started job_id=%s output=%s", context.job_id, data.output_dir)
    try:
        folder, output = _places(data)
        config = data.site_config or read_config(folder)
        found = find(folder, output)
        with _held(output):
            result = Build(folder, output, config, found, context).run(data.clean)
    except (Unfit, OSError) as error:
        result = BuildResult(False, 0, [str(error)], [], data.output_dir)
    for text in (*result.errors, *result.warnings):
        context.log(text)
    level = logging.INFO if result.success else logging.WARNING
    what = "completed" if result.success else "failed"
    log.log(
        level,
        "site build %s job_id=%s routes=%d errors=%d warnings=%d",
        *(what, context.job_id, result.routes_built, len(result.errors), len(result.warnings)),
    )
    return result


def _places(data: SiteBuildJobData) -> tuple[Path, Path]:
    folder, output = working(data.working_dir), place(data.output_dir, "outputDir")
    if folder.is_relative_to(output):
        raise Unfit(f"{output} holds {folder}: build into a folder of its own")
    return folder, output


def working(given: str) -> Path:
    """The folder of Markdown."""
    folder = place(given, "workingDir")
    if not folder.is_dir():
        raise Unfit(f"there is no folder {folder}: name the one with the Markdown in workingDir")
    return folder


def place(given: str, field: str) -> Path:
    """A folder; a relative one counts from where the node was started, unless that says nothing."""
    path = Path(given).expanduser()
    if not path.is_absolute() and Path.cwd() == Path("/"):
        raise Unfit(f"{field} is {given}: give an absolute path, this node has no folder of its own")
    return path.absolute().resolve()


def read_config(folder: Path) -> SiteConfig:
    """What a site says of itself in its `site.toml`."""
    try:
        return msgspec.toml.decode((folder / CONFIG).read_bytes(), type=SiteConfig)
    except FileNotFoundError:
        return SiteConfig()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unfit(f"{folder / CONFIG}: {error}") from error


@contextmanager
def _held(output: Path) -> Generator[None]:
    """Have the output folder for ourselves."""
    output.mkdir(parents=True, exist_ok=True)
    fd = os.open(output / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unfit(f"another build is writing into {output}: wait for its end") from None
    finally:
        os.close(fd)


class Head(msgspec.Struct):
    """The first line of the record of what was written; on each further one stands a file."""

    job: str
    before: list[str]
    """What the builds before had written."""


class Build:
    """One attempt."""

    def __init__(
        self, folder: Path, output: Path, config: SiteConfig, found: Found, context: Context
    ) -> None:
        self._folder, self._output, self._config = folder, output, config
        self._found, self._context = found, context
        self._errors, self._warnings = list(found.errors), list(found.warnings)
        self._theme = Theme(config, found)

    def run(self, clean: bool) -> BuildResult:
        """Write what is not written yet."""
        pages = self._found.routes
        before, written = self._resume(clean)
        for number, page in enumerate(pages):
            self._context.check()
            if page.target not in written:
                self._context.progress(f"Building route: {page.route}", number, len(pages))
            self._page(page, page.target in written)
        for name in self._found.assets:
            self._context.check()
            if name not in written and (target := self._target(name)):
                _whole(target, lambda part, name=name: shutil.copyfile(self._folder / name, part))
                self._note(name)
        for name, text in self._theme.files(pages).items():
            if target := self._target(name):
                _whole(target, lambda part, text=text: part.write_text(text, encoding="utf-8"))
                self._note(name)
        if clean:
            self._sweep(before - self._written())
        built = len(self._written() & {page.target for page in pages})
        self._context.progress(f"Built {built} routes", len(pages), len(pages))
        return BuildResult(not self._errors, built, self._errors, self._warnings, str(self._output))

    def _page(self, page: Page, done: bool) -> None:
        links = Links(page, self._found, self._config.repository, self._folder.name)
        text = self._theme.page(page, links)
        self._warnings += links.warnings
        if not done and (target := self._target(page.target)):
            _whole(target, lambda part: part.write_text(text, encoding="utf-8"))
            self._note(page.target)

    # ---- what was written --------------------------------------------------------------------------------

    def _resume(self, clean: bool) -> tuple[set[str], set[str]]:
        """What a build before left, and what an attempt before of this one has written."""
        head, names = self._read()
        before = set[str]() if head is None else set(head.before)
        if head is not None and head.job == self._context.job_id:
            return before, names
        there = any(path.name not in (LOCK, RECORD) for path in self._output.iterdir())
        if clean and there and head is None:
            raise Unfit(
                f"{self._output} holds files that no build has written: "
                "give an empty folder, or clean=false to write beside them"
            )
        begun = Head(job=self._context.job_id, before=sorted(before | names))
        _whole(self._output / RECORD, lambda part: part.write_bytes(msgspec.json.encode(begun)))
        return before | names, set()

    def _read(self) -> tuple[Head | None, set[str]]:
        try:
            first, *lines = (self._output / RECORD).read_bytes().split(b"\n")
            head = msgspec.json.decode(first, type=Head)
        except FileNotFoundError:
            return None, set()
        except msgspec.MsgspecError as error:
            raise Unfit(f"{self._output / RECORD} is no record of a build: remove it") from error
        # A line that was cut off by a crash names a file that is written once more.
        return head, {msgspec.json.decode(line, type=str) for line in lines if line[1:].endswith(b'"')}

    def _written(self) -> set[str]:
        return self._read()[1]

    def _note(self, name: str) -> None:
        with (self._output / RECORD).open("ab") as record:
            record.write(b"\n" + msgspec.json.encode(name))

    # ---- files -------------------------------------------------------------------------------------------

    def _target(self, name: str) -> Path | None:
        """Where a file goes; nothing is written where a link leads out of the output folder."""
        target = self._output / name
        if not target.parent.resolve().is_relative_to(self._output):
            self._errors.append(f"{name}: {target.parent} leads out of {self._output}")
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _sweep(self, names: set[str]) -> None:
        """Take away what a build before has written and this one has not."""
        for name in sorted(names, reverse=True):
            path = self._output / name
            if path.parent.resolve().is_relative_to(self._output):
                path.unlink(missing_ok=True)
                for parent in path.parents:
                    if parent == self._output or not parent.is_dir() or any(parent.iterdir()):
                        break
                    parent.rmdir()


def _whole(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that whoever looks sees the old one or the new one."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    write(part)
    part.replace(target)
