"""Progress is found in what commands write, however it arrives."""

import math
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.progress import Gauge, LastLine, Progress

HALF = Progress(50, 100, "%", "", 0.5)


def gauge(*chunks: bytes) -> Gauge:
    reader = Gauge()
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def found(*chunks: bytes) -> Progress | None:
    return gauge(*chunks).progress


def last(*chunks: bytes) -> str:
    reader = LastLine()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.text


@pytest.mark.parametrize(
    ("written", "progress"),
    [
        (b"::progress 3/10 copying files\n", Progress(3, 10, None, "copying files", 0.3)),
        (b"x\n::progress 3/10\r\n", Progress(3, 10, None, "", 0.3)),
        (b"::progress 1.5/3MB half\n", Progress(1.5, 3, "MB", "half", 0.5)),
        (b"::progress 50%\n", HALF),
        (
            b"::progress 30% h\xc3\xa9\xff \x1b[31mred\x1b[0m\n",
            Progress(30, 100, "%", "h\xe9\ufffd red", 0.3),
        ),
        (b"::progress 12/10 too many\n", Progress(12, 10, None, "too many", 1.0)),
        (b"::progress 3/0 of nothing\n", Progress(3, 0, None, "of nothing", None)),
        (b"::progress 300%\n", Progress(100, 100, "%", "", 1.0)),
        (b"::progress 1/4\n::progress what\n::progress 2/4\n::progress 3x\n", Progress(2, 4, None, "", 0.5)),
        (b"::progress 3/1", None),
        (b"see ::progress 3/10\n", None),
        (b"::progress -3/10\n::progress nan%\n::progress 3\n::progress\n", None),
        (b"\x1b]9;4;1;50\x07", HALF),
        (b"a\x1b]9;4;2;50\x1b\\b", HALF),
        (b"\x1b]9;4;1;50\x07\x1b]9;4;3\x07\x1b]9;4;0;\x07", HALF),
        (b"\x1b]9;4;1;\x07\x1b]9;4;7;50\x07\x1b]9;4;1;50", None),
        (b"\r 42%|####      | 42/100\r 50%|#####     | 50/100", HALF),
        (b"Receiving objects:  49% (1/2)\rReceiving objects:  50% (1/2), done.\n", HALF),
        (b"\r##### 12.5%\n", Progress(12.5, 100, "%", "", 0.125)),
        (b"\r\x1b[2K\x1b[32m50 %\x1b[0m spinning\r-\r", HALF),
        (b"\r250% of 1234% or -5%", None),
        (b"50% off\n", None),
        (b"50% off\r\n51% off\r\r\n", None),
        (b"50% off", None),
        (b"", None),
    ],
)
def test_what_is_written_and_what_is_found(written: bytes, progress: Progress | None) -> None:
    assert found(written) == progress
    assert found(*(bytes([byte]) for byte in written)) == progress


def test_the_more_trusted_source_is_believed() -> None:
    bar, sequence, said = b"\r 10%\r", b"\x1b]9;4;1;20\x07", b"\n::progress 3/10\n"
    assert found(bar) == Progress(10, 100, "%", "", 0.1)
    assert found(sequence, bar) == found(bar, sequence) == Progress(20, 100, "%", "", 0.2)
    assert found(said, sequence, bar) == found(bar, sequence, said) == Progress(3, 10, None, "", 0.3)


def test_the_end_of_the_stream_ends_the_last_line() -> None:
    reader = gauge(b"::progress 3/4 nearly")
    assert reader.progress is None
    reader.close()
    assert reader.progress == Progress(3, 4, None, "nearly", 0.75)


def test_progress_in_words() -> None:
    assert Progress(fraction=0.6).text == "60% complete"
    assert Progress(fraction=0.29).text == "29% complete"
    assert Progress(fraction=0.999).text == "99% complete"
    assert Progress(3).text == ""


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"", ""),
        (b"one\ntwo", "two"),
        (b"one\ntwo\n\n  \r\n\x1b[0m\n", "two"),
        (b" 10%\r 20%\r", "20%"),
        (b"a long one\rshort", "short"),
        (b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\\x1b(B\n", "red link"),
        (b"h\xc3\xa9 \xff\n", "h\xe9 \ufffd"),
        (b"tab\there\x00\x07\n", "tab here"),
        (b"x" * 600, "x" * 500),
        (b"done\n\x1b[3", "done"),
    ],
)
def test_the_last_line_is_what_a_screen_shows(written: bytes, line: str) -> None:
    assert last(written) == line
    assert last(*(bytes([byte]) for byte in written)) == line


PIECES = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\x1b",
            b"]9;4;",
            b"1;",
            b"50",
            b"\x07",
            b"\\",
            b"::progress ",
            b"3/10",
            b" 42%",
        ),
        *(
            b"::progress 7% x\n",
            b"\x1b]9;4;1;33\x07",
            b"\x1b[1m",
            b"\xc3",
            b"\xa9",
            b" ",
            b".",
            b"text",
            b"-",
            b"%",
        ),
        b"y" * 2040,
        b" " * 8190,
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=4), max_size=30).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 20_000), max_size=12))
@example(b"\r 4" + b"2%\r\n50% off\r\n", [3, 6, 7])
def test_it_does_not_matter_how_the_bytes_are_cut(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert found(*chunks) == found(stream)
    assert found(*chunks, b"\n") == found(stream + b"\n")
    assert last(*chunks) == last(stream)


@given(STREAMS)
def test_a_fraction_is_between_0_and_1_and_a_line_is_one_short_line(stream: bytes) -> None:
    progress = found(stream, b"\n")
    if progress is not None and progress.fraction is not None:
        assert 0 <= progress.fraction <= 1
        assert not math.isnan(progress.fraction)
    text = last(stream)
    assert len(text) <= 500
    assert text == text.strip()
    assert not {"\n", "\r", "\x1b"} & set(text)


def test_memory_stays_small_for_a_line_without_end() -> None:
    chunk = b"\rx" + b"x" * 65_534
    readers = (Gauge(), LastLine())
    tracemalloc.start()
    for piece in [chunk, *[b"x" * 65_536] * 300, *[b"\x1b" * 65_536] * 20]:
        for reader in readers:
            reader.feed(piece)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert peak < 1_000_000


def test_lines_of_colour_only_do_not_cost_more_the_more_there_are() -> None:
    blank = b"text\n" + b"\x1b[0m\n" * 10_000

    def read(times: int) -> None:
        LastLine().feed(blank * times)

    assert best_of(3, lambda: read(10)) < 40 * best_of(3, lambda: read(1))


def best_of(repeat: int, work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(repeat):
        since = time.perf_counter()
        work()
        times.append(time.perf_counter() - since)
    return min(times)


def test_a_million_short_lines_cost_next_to_nothing() -> None:
    stream = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    chunks = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    line = LastLine()

    def read() -> None:
        reader = Gauge()
        for chunk in chunks:
            reader.feed(chunk)
            line.feed(chunk)

    assert best_of(5, read) < 0.05
    assert line.text == "1000000"
