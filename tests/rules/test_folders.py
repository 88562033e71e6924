"""Working folders are fresh for whoever gets them, however often they were used."""

import os
import stat
from pathlib import Path

import pytest

from actors import folders
from actors.folders import Folders


def test_a_folder_is_empty_and_private_and_one_that_was_left_empty_is_used_again(tmp_path: Path) -> None:
    made = Folders(tmp_path)
    first = made.take("exec_a")
    assert (first, list(first.iterdir())) == (tmp_path / "exec_a", [])
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    inode = first.stat().st_ino
    made.give("exec_a")
    assert not first.exists()
    second = made.take("exec_b")
    assert (second, second.stat().st_ino) == (tmp_path / "exec_b", inode)
    assert made.take("exec_c").stat().st_ino != inode


def test_an_attempt_that_follows_finds_what_was_left_for_it(tmp_path: Path) -> None:
    made = Folders(tmp_path)
    made.take("exec_a")
    made.give("exec_a")
    (made.take("exec_b") / "left").write_text("here")
    made.give("exec_b")
    assert (made.take("exec_b") / "left").read_text() == "here"
    assert list(made.take("exec_c").iterdir()) == []


def test_one_whose_rights_or_attributes_were_changed_is_not_used_again(tmp_path: Path) -> None:
    made = Folders(tmp_path)
    made.take("exec_a").chmod(0o777)
    made.give("exec_a")
    assert stat.S_IMODE(made.take("exec_b").stat().st_mode) == 0o700
    try:
        os.setxattr(made.path("exec_b"), "user.color", b"red")
    except OSError:
        pytest.skip("this file system has no attributes")
    made.give("exec_b")
    assert os.listxattr(made.take("exec_c")) == []


def test_what_an_earlier_process_kept_is_used_and_no_more_than_enough_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SPARE", 2)
    made = Folders(tmp_path)
    names = [f"exec_{at}" for at in range(4)]
    inodes = {made.take(name).stat().st_ino for name in names}
    for name in [*names, "exec_unknown"]:
        made.give(name)
    assert len(list((tmp_path / ".spare").iterdir())) == 2
    later = Folders(tmp_path)
    assert {later.take(name).stat().st_ino for name in names[:2]} <= inodes
    assert sorted(each.name for each in tmp_path.iterdir()) == [".spare", "exec_0", "exec_1"]


def test_a_folder_that_somebody_took_from_the_shelf_is_not_missed(tmp_path: Path) -> None:
    made = Folders(tmp_path)
    made.take("exec_a")
    made.give("exec_a")
    (tmp_path / ".spare" / "exec_a").rmdir()
    assert list(made.take("exec_b").iterdir()) == []
