"""What a proof says while it goes on, and its verdict."""

import sys
import time


class Report:
    """Claims with the figures behind them; it held when no claim failed."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.name, self.quiet = name, quiet
        self.failed: list[str] = []
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """Say how it goes."""
        if not self.quiet:
            sys.stdout.write(f"{time.monotonic() - self._began:7.1f} s  {text}\n")
            sys.stdout.flush()

    def claim(self, held: bool, text: str, but: object = "") -> None:
        """Say whether something is so; `but` tells what was found when it is not."""
        self.note(f"{'holds ' if held else 'BROKEN'} {text}" + ("" if held else f": {str(but)[:1500]}"))
        if not held:
            self.failed.append(f"{text}: {but}")

    @property
    def held(self) -> bool:
        """Whether everything claimed is so."""
        return not self.failed

    def verdict(self) -> int:
        """The exit code, said as a sentence before."""
        word = "held" if self.held else f"did NOT hold ({len(self.failed)} claims broken)"
        self.note(f"{self.name}: {word}")
        return 0 if self.held else 1
