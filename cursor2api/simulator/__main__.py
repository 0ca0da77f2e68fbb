"""`python -m cursor2api.simulator`."""

from .cursor import main

main()
