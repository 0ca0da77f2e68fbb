"""What is started here: `gunicorn app:app` serves, `python app.py` is the development start (`make run`)."""

import sys

from cursor2api import start

if __name__ == "__main__":
    from cursor2api import development_start  # here, as gunicorn's workers need nothing of it
    sys.exit(development_start.main())
app = start.application()
