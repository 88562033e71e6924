"""Which processes are taken for those of an execution, and which never are."""

from actors.linux import Stat
from actors.tree import Tree, owner


class _Stranger(Stat):
    """A living process that carries no marker and writes to no file of ours."""

    def env(self) -> bytes:
        return b"HOME=/\0"

    def output(self) -> set[tuple[int, int]]:
        return set()


def _stranger(pid: int, session: int, start: int) -> Stat:
    return _Stranger(pid, "S", 1, session, start)


def test_an_attempt_whose_process_is_unknown_owns_nobody() -> None:
    # Kernel threads and processes from outside of a container stand in session 0.
    table = {one.pid: one for one in (_stranger(2, 0, 1), _stranger(991, 0, 2224), _stranger(992, 992, 3000))}
    unknown = Tree("exec_a", 1, 0, 0, ())
    assert unknown.members(table) == {}
    assert not any(unknown.owns(one) for one in table.values())

    class Attempt:
        tree = Tree("exec_a", 1, 0, 0, ())

    assert owner(table[991], {("exec_a", 1): Attempt()}) == (None, True)


def test_a_process_is_found_by_the_session_of_its_attempt() -> None:
    table = {one.pid: one for one in (_stranger(50, 50, 10), _stranger(51, 50, 11), _stranger(52, 0, 12))}
    assert sorted(Tree("exec_a", 1, 50, 10, ()).members(table)) == [50, 51]
