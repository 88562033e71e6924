"""Begin a process that a node starts beside itself: `python -P -m interfaces.child interfaces.projector`.

Reading its code makes much, and no garbage: a tenth of what the start costs goes into looking for some.
"""

import importlib
import sys

from actors import heap


def main() -> None:
    """Run the module that is named."""
    heap.widen()
    importlib.import_module(sys.argv[1]).main()
    heap.leave()


if __name__ == "__main__":
    main()
