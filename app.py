"""What is started here: `gunicorn app:app` serves, `python app.py` is the development start (`make run`)."""

import sys

from cursor2api import start

if __name__ == "__main__":
    sys.exit(start.main())
app = start.application()
