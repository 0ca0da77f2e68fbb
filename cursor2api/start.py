"""From the environment and .env to the service.

Nothing is made while this module is imported, as gunicorn's settings and the doctor import it too.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from . import __version__
from .server import markup, page as site
from .agents.agents import Agents
from .clients import catalog
from .config import CURSOR_URL, DEVELOPMENT_KEY, Config, ConfigError, check_env_file, digest
from .dialects import Dialect
from .dialects.served import DIALECTS
from .server.keys import Keys, read_digests
from .server.metrics import Metrics
from .server.model_lists import Models
from .server.reference import reference
from .server.service import Service
from .server.slots import UNPROVEN, Slots
from .state.sqlite_store import SqliteStore
from .state.store import Store
from .upstream.sdk.bridge import Bridges, bridge_of, bridge_user, installed
from .upstream.cloud import Cloud
from .upstream.http import Limits
from .upstream.sdk.adapter import Sdk
from .upstream.uistream import UiStream
from .server.views import routes
from .server.dispatch import App

ROOT = Path(__file__).resolve().parent.parent
# As in the Procfile: glibc gives memory back.
GLIBC_TUNABLES = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=1:glibc.malloc.mmap_threshold=16384"


def environment(**more: str) -> dict[str, str]:
    """All variables: .env beside app.py, before it the environment, before that `more`. Raises ConfigError."""
    values = {**read_env_file(ROOT / ".env"), **os.environ, **more}
    values["SDK_BRIDGE"] = values.get("SDK_BRIDGE") or installed()
    return {name: value for name, value in values.items() if value is not None}


def read_env_file(path: Path) -> dict[str, str | None]:
    """The variables of the file, none if it is not there. Raises ConfigError."""
    try:
        text = path.read_text("utf-8-sig") if path.is_file() else ""  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f".env: expected a text in UTF-8 that can be read, got {error}") from None
    check_env_file(text)
    return dotenv_values(stream=StringIO(text))


def read_config(**more: str) -> Config:
    """The settings. Ends the process if one is wrong."""
    try:
        config = Config.read(environment(**more))
        if config.upstream_in_use == "sdk":
            bridge_user(config.sdk_user, config.sdk_bridge)
        make_keys(config, make_store(config))
        return config
    except ConfigError as error:
        sys.exit(f"cursor2api: {error}")


def read_keys(config: Config) -> tuple[tuple[str, str], ...]:
    """The names and digests of API_KEY_FILE. Raises ConfigError."""
    if not config.api_key_file:
        return ()
    try:
        return read_digests(Path(config.api_key_file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"API_KEY_FILE: expected a file to read, got {error}") from None


def make_keys(config: Config, store: Store, development: bool = False) -> Keys:
    """The keys of API_KEY and API_KEY_FILE, and their limits. Raises ConfigError."""
    return Keys(config.api_key, read_keys(config), config.key_limits, config.key_passthrough, time.monotonic,
                store, DEVELOPMENT_KEY if development and not config.api_key else "")


def make_upstream(config: Config, kept: Callable[[], int] = lambda: 0):
    """The adapter in use; None when nothing is configured. `kept()` agents wait. Raises ConfigError."""
    limits = Limits(config.connect_timeout, config.create_timeout, config.timeout, config.retry_s)
    if config.upstream_in_use == "uistream":
        return UiStream(config.uistream_url, dict(config.uistream_headers), limits, pool=config.threads)
    if config.upstream_in_use is None:
        return None
    cloud = Cloud(config.cursor_base_url, config.cursor_api_key, limits, pool=config.threads,
                  name=config.upstream_in_use)
    if config.upstream_in_use != "sdk":
        return cloud
    start = partial(
        bridge_of, config.sdk_bridge, bridge_user(config.sdk_user, config.sdk_bridge),
        "" if config.cursor_base_url == CURSOR_URL else config.cursor_base_url, limits, config.threads)
    return Sdk(Bridges(start, config.sdk_idle_s, config.retry_s, kept), config.cursor_api_key, cloud.models,
               limits, pool=config.threads)


def make_store(config: Config) -> Store:
    """What all workers share: in Redis, in STATE_FILE, or in the instance's own folder. Raises ConfigError."""
    if not config.redis_url:
        if not os.path.isdir(os.path.dirname(os.path.abspath(config.state_file))):
            raise ConfigError(f"STATE_FILE: expected a file in a folder that is there, got {config.state_file!r}")
        return Store(SqliteStore(config.state_file))
    from .state.redis_store import RedisStore  # only here: redis takes 7 MB of a worker
    scope = digest(f"{config.cursor_base_url} {config.cursor_api_key}")[:16]
    try:
        return Store(RedisStore(config.redis_url, scope))
    except Exception:  # redis-py raises several kinds, whose words could show a piece of the password
        raise ConfigError("REDIS_URL: expected a URL with a port, a number and options that redis-py "
                          "knows, special characters of a password as %XX") from None


def read_page(config: Config, keys: Keys) -> dict[str, site.File]:
    """The files of the page, with what it tells of the service as it is now."""
    examples = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "static/examples").iterdir())}
    about = reference(config, version=__version__, started=int(time.time()), routes=routes(), examples=examples,
                      keys="development" if keys.development else "set" if keys.exist else "none")
    words = json.loads((ROOT / "static/words/zh.json").read_text("utf-8"))
    clients = catalog.as_data()
    in_chinese = catalog.as_data(lambda text: words.get(text, text))
    state = {name: about[name] for name in ("version", "started", "upstream", "keys")} | {
        "clients": [(client["name"], client["title"]) for client in clients["clients"]]}
    template = (ROOT / "static/index.html").read_text("utf-8")
    return site.read(ROOT / "static", **{
        "index.html": markup.page(template, about, markup.Words("en", {}), config.port),
        "zh.html": markup.page(template, about, markup.Words("zh-CN", words), config.port),
        "reference.json": _json(about),
        "clients.json": _json(clients),
        **{f"client-{one['name']}.json": _json(one) for one in clients["clients"]},
        **{f"client-{one['name']}.zh.json": _json(one) for one in in_chinese["clients"]},
        "state.json": _json(state)})


def _json(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def create_app(config: Config, upstream=None, dialects: Sequence[Dialect] = DIALECTS, *,
               development: bool = False) -> App:
    """The service as a WSGI callable, before `upstream` or the configured one. Raises ConfigError.

    With `development` and without API_KEY the key is 0000: see server/development.py.
    """
    store = make_store(config)
    # An agent of a bridge ends with the instance, and no other machine can reach it.
    home = Store(SqliteStore()) if config.upstream_in_use == "sdk" and (
        config.redis_url or config.state_file) else store
    upstream = upstream or make_upstream(config, home.kept)
    models = Models(upstream.models, config.models, config.model_aliases) if upstream else None
    keys = make_keys(config, store, development)
    agents = Agents(config, upstream, models.first, None if config.upstream_in_use == "uistream" else home
                    ) if upstream else None
    streams = config.max_streams or config.threads - 4
    return App(Service(
        config, upstream, agents, models, store, keys,
        Slots(streams, config.threads - streams - 2, time.monotonic),
        Slots(UNPROVEN, UNPROVEN, time.monotonic, "as many callers' keys as it can try"),
        Metrics(streams, config.upstream_in_use or "none"), read_page(config, keys)), dialects)


def application(development: bool = False) -> App:
    """What gunicorn serves, in the `development` start too. Ends the process if a setting is wrong."""
    return create_app(read_config(), development=development)
