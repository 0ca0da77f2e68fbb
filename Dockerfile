# docker build -t cursor2api .
# docker build -t cursor2api --build-arg SDK=yes .    for UPSTREAM=sdk too: installs the package cursor-sdk (174 MB).
# That package is proprietary: Cursor's terms apply to an image that holds it, so do not publish that image.
FROM python:3.11-slim

ARG SDK=no
WORKDIR /srv/cursor2api
# The second variable has glibc give memory back, as in the Procfile.
ENV PYTHONUNBUFFERED=1 \
    GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.tcache_count=1:glibc.malloc.mmap_threshold=16384

COPY requirements.txt requirements-sdk.txt ./
RUN pip install --no-cache-dir -r requirements.txt \
    && if [ "$SDK" = yes ]; then pip install --no-cache-dir -r requirements-sdk.txt; fi \
    && useradd --system --uid 10001 cursor2api

COPY app.py gunicorn.conf.py ./
COPY cursor2api cursor2api
COPY static static
RUN python -m compileall -q app.py cursor2api

USER 10001
EXPOSE 8002
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import http.client, os; \
asked = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8002), timeout=4); \
asked.request('GET', '/health'); raise SystemExit(asked.getresponse().status != 200)"]
# gunicorn is process 1: it hears SIGTERM itself, and takes in what its children leave.
CMD ["gunicorn", "app:app"]
