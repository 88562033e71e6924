"""Working folders that commands get fresh, and that are used again when nothing was left in them.

To remove a folder waits for the file system, and ext4 looks at every inode that was freed in the last
minutes whenever it makes a file: at hundreds of commands a second that costs more than the commands.  To
rename an empty folder costs a few microseconds.
"""

import os
import stat
from collections import deque
from pathlib import Path

MODE = 0o700
SPARE = 256
"""So many are kept; what is more is removed."""


class Folders:
    """The working folders in one place.  One thread uses it."""

    def __init__(self, root: Path) -> None:
        self._root, self._shelf = root, root / ".spare"
        self._shelf.mkdir(mode=MODE, parents=True, exist_ok=True)
        self._spare = deque([path.name for path in self._shelf.iterdir()][:SPARE])

    def path(self, entity: str) -> Path:
        """Where the folder of an execution is, when it has one."""
        return self._root / entity

    def take(self, entity: str) -> Path:
        """Make sure that it has one: an empty one, unless an earlier attempt has left something."""
        path = self.path(entity)
        while self._spare and not path.exists():
            try:
                (self._shelf / self._spare.popleft()).rename(path)
            except OSError:  # somebody took it away from the shelf
                continue
        path.mkdir(mode=MODE, exist_ok=True)
        return path

    def give(self, entity: str) -> None:
        """Nothing runs in it any more: what lies there stays, and an empty folder goes."""
        path = self.path(entity)
        try:
            if len(self._spare) < SPARE and _untouched(path):
                path.rename(self._shelf / entity)
                self._spare.append(entity)
            else:
                path.rmdir()
        except OSError:  # not there, or the command left something in it
            return


def _untouched(path: Path) -> bool:
    """Whether it is as it was made: empty, private, and without attributes or access lists."""
    seen = path.stat()
    if stat.S_IMODE(seen.st_mode) != MODE or seen.st_uid != os.geteuid() or not stat.S_ISDIR(seen.st_mode):
        return False
    with os.scandir(path) as inside:
        if next(inside, None) is not None:
            return False
    return not hasattr(os, "listxattr") or not os.listxattr(path, follow_symlinks=False)
