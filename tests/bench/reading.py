"""`python -m tests.bench.reading DATA`: read a whole log over and over, until somebody ends it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bus.reader import read_range
from tests.bench.stand import bridge


def main() -> None:
    """Say a word with every lot of records, so that others know that it reads."""

    def take(records: Sequence[Any]) -> None:
        sys.stdout.write(f"{len(records)}\n")
        sys.stdout.flush()

    with bridge(Path(sys.argv[1])) as bus:
        while True:
            bus.call(read_range(bus, 1, None, take), 600)


if __name__ == "__main__":
    main()
