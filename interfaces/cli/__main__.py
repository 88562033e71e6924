"""The program `hindbrain` for those who know only their interpreter: `python -P -m interfaces.cli`."""

from interfaces.cli import main

main()
