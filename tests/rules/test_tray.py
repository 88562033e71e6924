"""What is laid on a tray is taken once, and whoever takes is called for it, whoever lays it there."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from actors.tray import Tray


@given(st.lists(st.booleans(), max_size=60))
def test_who_takes_whenever_it_was_called_has_everything_once_and_in_order(adds: list[bool]) -> None:
    calls: list[None] = []
    tray = Tray[int](lambda: calls.append(None))
    laid, taken = list[int](), list[int]()
    for number, add in enumerate(adds):
        if add:
            tray.add(number)
            laid.append(number)
            assert calls  # somebody is on the way for all that lies there
        elif calls:
            calls.clear()
            taken += tray.take()
            assert taken == laid
    assert taken + tray.take() == laid


def test_many_threads_lose_nothing() -> None:
    called = threading.Semaphore(0)
    tray = Tray[tuple[int, int]](called.release)
    taken: list[tuple[int, int]] = []

    def lay(thread: int) -> None:
        for number in range(2000):
            tray.add((thread, number))

    threads = [threading.Thread(target=lay, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    while len(taken) < 8000:
        assert called.acquire(timeout=30), "nobody was called for what lies there"
        taken += tray.take()
    for thread in threads:
        thread.join()
    for each in range(4):
        assert [number for thread, number in taken if thread == each] == list(range(2000))


def test_who_was_struck_down_before_it_called_is_made_good_by_the_next_look() -> None:
    def struck() -> None:
        raise RuntimeError

    tray = Tray[str](struck)
    try:
        tray.add("first")
    except RuntimeError:
        assert tray.take() == ["first"]
