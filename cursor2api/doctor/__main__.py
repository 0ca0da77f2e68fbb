"""`python -m cursor2api.doctor`."""

import sys

from .doctor import main

sys.exit(main())
