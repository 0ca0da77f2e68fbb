"""Settings: what a value comes to, and a bad one is refused by its name, without showing a key."""

import pytest

from cursor2api.config import Config, ConfigError

GOOD = [
    ("PORT", "9000", "port", 9000), ("API_KEY", " a, b ,", "api_key", ("a", "b")),
    ("MODELS", "a,b", "models", ("a", "b")), ("DEBUG", "yes", "debug", True),
    ("MODEL_ALIASES", "a=b, c=d", "model_aliases", (("a", "b"), ("c", "d"))),
    ("UISTREAM_HEADERS", '{"X": "y"}', "uistream_headers", (("X", "y"),)),
    ("TIMEOUT", "1.5", "timeout", 1.5), ("MAX_INPUT_LENGTH", "0", "max_input_length", 0),
    ("CURSOR_BASE_URL", "http://x/", "cursor_base_url", "http://x"), ("PORT", "", "port", 8002),
]


@pytest.mark.parametrize("name, value, field, expected", GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_a_good_value(name, value, field, expected):
    assert getattr(Config.read({name: value}), field) == expected


BAD = [
    ({"PORT": "x"}, "PORT"), ({"PORT": "70000"}, "PORT"), ({"DEBUG": "maybe"}, "DEBUG"),
    ({"API_KEY": ","}, "API_KEY"), ({"MODEL_ALIASES": "a"}, "MODEL_ALIASES"), ({"TIMEOUT": "nan"}, "TIMEOUT"),
    ({"UISTREAM_HEADERS": '{"secret-key": 1}'}, "UISTREAM_HEADERS"), ({"UPSTREAM": "x"}, "UPSTREAM"),
    ({"CURSOR_BASE_URL": "ftp://x"}, "CURSOR_BASE_URL"), ({"UPSTREAM": "cloud"}, "CURSOR_API_KEY"),
    ({"UPSTREAM": "uistream"}, "UISTREAM_URL"), ({"UISTREAM_URL": "http://x"}, "MODELS"),
]


@pytest.mark.parametrize("environ, name", BAD, ids=[str(row[0]) for row in BAD])
def test_a_bad_value_is_refused_by_name(environ, name):
    with pytest.raises(ConfigError, match=f"^{name}: expected ") as raised:
        Config.read(environ)
    assert "secret" not in str(raised.value)


def test_the_upstream_follows_from_what_is_set():
    assert Config.read({}).upstream_in_use is None
    assert Config.read({"CURSOR_API_KEY": "k"}).upstream_in_use == "cloud"
    assert Config.read({"UISTREAM_URL": "http://x", "MODELS": "m"}).upstream_in_use == "uistream"
