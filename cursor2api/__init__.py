"""Cursor2API: lets any OpenAI client use Cursor's models."""

import sys

__version__ = "0.1.0"

if sys.version_info < (3, 10):  # every command imports this first; older Pythons fail at what follows
    sys.exit("cursor2api: expected Python 3.10 or newer, got %d.%d: make run PYTHON=python3.12, for example"
             % sys.version_info[:2])
