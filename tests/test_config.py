"""Settings: what a value comes to, and a bad one is refused by its name, without showing a key."""

import re
from dataclasses import fields

import pytest

from cursor2api.config import Config, ConfigError, KeyLimit, check_env_file
from cursor2api.start import ROOT, read_env_file

DEFAULTS = {
    "port": 8002, "host": "", "api_key": (), "upstream": "auto", "cursor_api_key": "",
    "cursor_base_url": "https://api.cursor.com", "sdk_bridge": (), "sdk_user": "",
    "sdk_idle_s": 600.0, "uistream_url": "", "uistream_headers": (),
    "models": (), "model_aliases": (), "system_prompt_inject": "", "max_input_length": 200_000,
    "expose_thinking": False, "max_n": 4, "strict_params": False, "tool_streaming": "pieces",
    "max_body_bytes": 20_000_000, "request_timeout": 60.0, "send_timeout": 60.0, "kilo_tool_strict": False,
    "timeout": 120.0, "connect_timeout": 10.0, "create_timeout": 180.0, "retry_s": 0.5, "first_byte_s": 8.0,
    "heartbeat_s": 10.0, "debug": False, "web_concurrency": 1, "threads": 64, "api_key_file": "",
    "key_limits": (), "key_passthrough": False, "max_streams": 0, "queue_s": 2.0, "grace_s": 20.0,
    "total_timeout": 0.0, "heartbeat": "chunk", "body_heartbeat_s": 20.0, "sweep_s": 3600.0,
    "log_format": "logfmt", "debug_content": False, "keep_agents": 32, "keep_agent_s": 900.0,
    "seed_replay_s": 600.0, "responses_s": 3600.0, "responses_mb": 64,
    "warm_agents": 0, "redis_url": "", "state_file": ""}


@pytest.mark.parametrize("environ", [{}, {field.name.upper(): " " for field in fields(Config)}],
                         ids=["nothing set", "all set to nothing"])
def test_what_is_not_set_has_its_default(environ):
    config = Config.read({"PATH": "/bin", "timeout": "1", **environ})
    assert {field.name: getattr(config, field.name) for field in fields(Config)} == DEFAULTS


GOOD = [
    ("PORT", "9000", "port", 9000),
    ("HOST", "0.0.0.0", "host", "0.0.0.0"), ("HOST", "[::1]", "host", "::1"), ("HOST", "::", "host", "::"),
    ("HOST", "localhost", "host", "localhost"), ("HOST", "my-host.local", "host", "my-host.local"),
    ("API_KEY", " a, b ,", "api_key", (("ca978112", "a"), ("3e23e816", "b"))),
    ("API_KEY", "me:a,0000", "api_key", (("me", "a"), ("9af15b33", "0000"))),
    ("WEB_CONCURRENCY", "2", "web_concurrency", 2), ("THREADS", "8", "threads", 8),
    ("MAX_STREAMS", "62", "max_streams", 62), ("QUEUE_S", "0", "queue_s", 0.0),
    ("GRACE_S", "0", "grace_s", 0.0), ("TOTAL_TIMEOUT", "600", "total_timeout", 600.0),
    ("HEARTBEAT", "Comment", "heartbeat", "comment"), ("HEARTBEAT", "off", "heartbeat", "off"),
    ("BODY_HEARTBEAT_S", "0", "body_heartbeat_s", 0.0), ("SWEEP_S", "0", "sweep_s", 0.0),
    ("LOG_FORMAT", "JSON", "log_format", "json"), ("API_KEY_FILE", "/keys", "api_key_file", "/keys"),
    ("KEY_LIMITS", '{"a": {"streams": 2, "models": ["m"]}, "*": {"requests_per_minute": 60}}',
     "key_limits", (("a", KeyLimit(None, 2, ("m",))), ("*", KeyLimit(60)))),
    ("KEEP_AGENTS", "0", "keep_agents", 0), ("KEEP_AGENT_S", "60", "keep_agent_s", 60.0),
    ("SEED_REPLAY_S", "0", "seed_replay_s", 0.0), ("RESPONSES_S", "0", "responses_s", 0.0),
    ("RESPONSES_MB", "1", "responses_mb", 1),
    ("REDIS_URL", "redis://:pass@h:6379/1", "redis_url", "redis://:pass@h:6379/1"),
    ("STATE_FILE", "/var/lib/x.sqlite", "state_file", "/var/lib/x.sqlite"),
    ("MODELS", "a,b", "models", ("a", "b")), ("DEBUG", "yes", "debug", True),
    ("MODEL_ALIASES", "a=b, c=d", "model_aliases", (("a", "b"), ("c", "d"))),
    ("UISTREAM_HEADERS", '{"X": "y"}', "uistream_headers", (("X", "y"),)),
    ("TIMEOUT", "1.5", "timeout", 1.5), ("MAX_INPUT_LENGTH", "0", "max_input_length", 0),
    ("CURSOR_BASE_URL", "http://x/", "cursor_base_url", "http://x"), ("PORT", "", "port", 8002),
    ("PORT", "0", "port", 0), ("PORT", " 65535 ", "port", 65535),
    ("UPSTREAM", "Auto", "upstream", "auto"), ("CURSOR_API_KEY", "key", "cursor_api_key", "key"),
    ("CURSOR_BASE_URL", "https://h:1/p//", "cursor_base_url", "https://h:1/p"),
    ("UISTREAM_HEADERS", "{}", "uistream_headers", ()),
    ("MODEL_ALIASES", "a=b=c", "model_aliases", (("a", "b=c"),)),
    ("MODELS", ",", "models", ()), ("SYSTEM_PROMPT_INJECT", "a\nb", "system_prompt_inject", "a\nb"),
    ("MAX_N", "128", "max_n", 128), ("MAX_BODY_BYTES", "1", "max_body_bytes", 1),
    ("TOOL_STREAMING", "WHOLE", "tool_streaming", "whole"),
    ("REQUEST_TIMEOUT", "5", "request_timeout", 5.0), ("SEND_TIMEOUT", "0.5", "send_timeout", 0.5),
    ("CONNECT_TIMEOUT", "3", "connect_timeout", 3.0), ("CREATE_TIMEOUT", "60", "create_timeout", 60.0),
    ("RETRY_S", "0.01", "retry_s", 0.01), ("FIRST_BYTE_S", "0", "first_byte_s", 0.0),
    ("HEARTBEAT_S", "0.1", "heartbeat_s", 0.1), ("TIMEOUT", "86400", "timeout", 86400.0),
    ("SDK_BRIDGE", "'a b' -c", "sdk_bridge", ("a b", "-c")), ("SDK_USER", "x", "sdk_user", "x"),
    ("SDK_IDLE_S", "0", "sdk_idle_s", 0.0),
    *((name, value, name.lower(), expected)
      for name in ("EXPOSE_THINKING", "STRICT_PARAMS", "KILO_TOOL_STRICT", "DEBUG",
                   "KEY_PASSTHROUGH", "DEBUG_CONTENT")
      for value, expected in (("1", True), ("TRUE", True), ("on", True), ("0", False), ("no", False),
                              ("off", False), ("False", False))),
]


def test_every_setting_has_a_good_value_here():
    assert {field for _, _, field, _ in GOOD} | {"uistream_url", "warm_agents"} == set(DEFAULTS)
    config = Config.read({"UISTREAM_URL": "http://h/chat/", "MODELS": "m"})
    assert config.uistream_url == "http://h/chat/", "it is called as it stands"
    assert Config.read({"CURSOR_API_KEY": "key", "WARM_AGENTS": "2"}).warm_agents == 2


@pytest.mark.parametrize("name, value, field, expected", GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_a_good_value(name, value, field, expected):
    assert getattr(Config.read({name: value}), field) == expected


BAD = [
    ({"PORT": "x"}, "PORT"), ({"PORT": "70000"}, "PORT"), ({"DEBUG": "maybe"}, "DEBUG"),
    ({"API_KEY": ","}, "API_KEY"), ({"MODEL_ALIASES": "a"}, "MODEL_ALIASES"), ({"TIMEOUT": "nan"}, "TIMEOUT"),
    ({"UISTREAM_HEADERS": '{"secret-key": 1}'}, "UISTREAM_HEADERS"), ({"UPSTREAM": "x"}, "UPSTREAM"),
    ({"CURSOR_BASE_URL": "ftp://x"}, "CURSOR_BASE_URL"), ({"UPSTREAM": "cloud"}, "CURSOR_API_KEY"),
    ({"UPSTREAM": "uistream"}, "UISTREAM_URL"), ({"UISTREAM_URL": "http://x"}, "MODELS"),
    ({"UPSTREAM": "simulator"}, "CURSOR_API_KEY"), ({"UPSTREAM": "sdk", "CURSOR_API_KEY": "secret"}, "UPSTREAM"),
    ({"UPSTREAM": "sdk", "SDK_BRIDGE": "x"}, "CURSOR_API_KEY"), ({"SDK_BRIDGE": "'x"}, "SDK_BRIDGE"),
    ({"UISTREAM_URL": "http://x", "MODELS": ","}, "MODELS"),
    ({"API_KEY": "secret with space"}, "API_KEY"), ({"API_KEY": "a b:secret"}, "API_KEY"),
    ({"API_KEY": "name:"}, "API_KEY"), ({"API_KEY": "schl\u00fcssel-secret"}, "API_KEY"),
    ({"CURSOR_API_KEY": "secret\u00e9"}, "CURSOR_API_KEY"),
    *(({"KEY_LIMITS": value}, "KEY_LIMITS") for value in (
        "a", "[]", '{"a": 1}', '{"a": {"rpm": 1}}', '{"a": {"streams": 0}}', '{"a": {"streams": true}}',
        '{"a": {"requests_per_minute": "60"}}', '{"a": {"models": "m"}}', '{"a": {"models": [1]}}')),
    ({"MAX_STREAMS": "63"}, "MAX_STREAMS"), ({"THREADS": "5"}, "THREADS"),
    ({"THREADS": "8", "MAX_STREAMS": "7"}, "MAX_STREAMS"), ({"HEARTBEAT": "ping"}, "HEARTBEAT"),
    ({"LOG_FORMAT": "xml"}, "LOG_FORMAT"), ({"REDIS_URL": "secret@h"}, "REDIS_URL"),
    ({"KEEP_AGENT_S": "3600"}, "SWEEP_S"),  # else another process would delete what waits
    ({"KEY_PASSTHROUGH": "true", "UPSTREAM": "uistream", "UISTREAM_URL": "http://x", "MODELS": "m"},
     "KEY_PASSTHROUGH"),
    *(({name: value}, name) for name in ("PORT", "MAX_INPUT_LENGTH", "MAX_N", "MAX_BODY_BYTES",
                                         "THREADS", "WEB_CONCURRENCY", "MAX_STREAMS", "KEEP_AGENTS",
                                         "WARM_AGENTS")
      for value in ("-1", "1.5", "1e3", "ten", "nan", "0x10", "9" * 5000)),
    *(({name: value}, name) for name in ("TIMEOUT", "CONNECT_TIMEOUT", "CREATE_TIMEOUT", "RETRY_S",
                                         "FIRST_BYTE_S", "HEARTBEAT_S", "TOTAL_TIMEOUT", "GRACE_S",
                                         "QUEUE_S", "BODY_HEARTBEAT_S", "KEEP_AGENT_S", "SDK_IDLE_S")
      for value in ("-1", "ten", "nan", "inf", "1e400", "1e300", "86401", "1s")),
    *(({name: "0"}, name) for name in ("TIMEOUT", "CONNECT_TIMEOUT", "CREATE_TIMEOUT", "RETRY_S",
                                       "HEARTBEAT_S", "KEEP_AGENT_S", "MAX_N", "MAX_BODY_BYTES")),
    *(({"HOST": value}, "HOST") for value in (
        "http://127.0.0.1", "127.0.0.1:8002", "[::1]:8002", "a b", "256.0.0.1", "127.1", "*")),
    ({"MAX_N": "129"}, "MAX_N"), ({"TOOL_STREAMING": "half"}, "TOOL_STREAMING"),
    *(({name: "maybe"}, name) for name in ("EXPOSE_THINKING", "STRICT_PARAMS", "KILO_TOOL_STRICT",
                                           "KEY_PASSTHROUGH", "DEBUG_CONTENT")),
    *(({name: value}, name) for name in ("CURSOR_BASE_URL", "UISTREAM_URL", "REDIS_URL")
      for value in ("x", "ftp://x", "http://", "https:///x", "http:x", "http://a b", "//x", "http://?x",
                    "user:secret@h", "http:/user:secret@h", "http://user:secret @h", "http://user:secret@[h",
                    "http://user:sec/ret@h", "http://user:secret@h:99999", "http://user:secret@")),
    *(({"UISTREAM_HEADERS": value}, "UISTREAM_HEADERS")
      for value in ("X: secret", '["secret"]', '"secret"', "1", "null", '{"secret": null}',
                    '{"secret": {}}', "{'secret': 'x'}")),
    *(({"MODEL_ALIASES": value}, "MODEL_ALIASES") for value in ("=", "a=", "=b", "a=b,c", "a:b")),
    ({"CURSOR_API_KEY": "secret", "API_KEY": "secret", "TIMEOUT": "x"}, "TIMEOUT"),
    ({"CURSOR_API_KEY": "secret", "API_KEY": "secret", "UPSTREAM": "uistream"}, "UISTREAM_URL"),
]


@pytest.mark.parametrize("environ, name", BAD, ids=[str(row[0])[:80] for row in BAD])
def test_a_bad_value_is_refused_by_name(environ, name):
    with pytest.raises(ConfigError, match=f"^{name}: expected ") as raised:
        Config.read(environ)
    assert "secret" not in str(raised.value)


def test_the_upstream_follows_from_what_is_set():
    assert Config.read({}).upstream_in_use is None
    assert Config.read({"UPSTREAM": "simulator", "CURSOR_API_KEY": "k"}).upstream_in_use == "simulator"
    assert Config.read({"CURSOR_API_KEY": "k", "UISTREAM_URL": "http://x"}).upstream_in_use == "cloud"
    assert Config.read({"CURSOR_API_KEY": "k"}).upstream_in_use == "cloud"
    assert Config.read({"CURSOR_API_KEY": "k", "SDK_BRIDGE": "x"}).upstream_in_use == "sdk"
    assert Config.read({"SDK_BRIDGE": "x"}).upstream_in_use is None
    assert Config.read({"CURSOR_API_KEY": "k", "SDK_BRIDGE": "x", "UPSTREAM": "cloud"}).upstream_in_use == "cloud"
    assert Config.read({"UISTREAM_URL": "http://x", "MODELS": "m"}).upstream_in_use == "uistream"


def test_callers_keys_alone_make_cloud_the_upstream():
    assert Config.read({"KEY_PASSTHROUGH": "true"}).upstream_in_use == "cloud"


def test_no_key_shows_when_the_settings_are_printed():
    url = "//user:secret@host/"
    config = Config.read({"CURSOR_API_KEY": "secret", "API_KEY": "me:secret", "UISTREAM_HEADERS":
                          '{"Authorization": "secret"}', "CURSOR_BASE_URL": "http:" + url,
                          "UISTREAM_URL": "http:" + url, "MODELS": "m", "REDIS_URL": "redis:" + url})
    assert "secret" not in repr(config)


STATEMENTS = [
    ("", None), ("\n", None), ("# a comment", None), (" # a comment\n\t\n", None), ("PORT=1", None),
    ("  export PORT = 1 # why\n", None), ("PORT=", None), ("API_KEY=a=b#c", None),
    ("SYSTEM_PROMPT_INJECT='two\nlines, \\' and\nNO NAME'\nPORT=1", None),
    ('SYSTEM_PROMPT_INJECT="two\n# lines, \\" and\nPROT=1" # why\nPORT=1', None),
    ("OPENAI_API_KEY=1\nXAI_API_KEY=1\nLOG_LEVEL=1\nHOSTNAME=x\nHTTPS_PROXY=x\nGLIBC_TUNABLES=a=b", None),
    ("PROT=1", "line 1: expected PORT, got PROT"), ("port=1", "line 1: expected PORT, got port"),
    ("\nPORT=1\nCURSOR_APIKEY=secret", "line 3: expected CURSOR_API_KEY, got CURSOR_APIKEY"),
    ("export CURSOR-API-KEY='secret'", "line 1: expected CURSOR_API_KEY, got CURSOR-API-KEY"),
    ("CURSOR_KEY=secret", "line 1: expected CURSOR_API_KEY, got CURSOR_KEY"),
    ("SYSTEM_PROMPT_INJECT='\n\n'\nMODEL=m", "line 4: expected MODELS, got MODEL"),
    *((text, f"line {line}: expected NAME=value, got something else") for text, line in (
        ("secret", 1), ("PORT=1\n\nCURSOR_API_KEY secret\nPORT=2", 3), ("API_KEY: secret", 1), ("=secret", 1),
        ("PORT=1\nAPI_KEY='secret\nPORT=2", 2), ('API_KEY="secret" secret', 1), ("export PORT", 1)))]


@pytest.mark.parametrize("text, wrong", STATEMENTS, ids=[repr(row[0])[:60] for row in STATEMENTS])
def test_a_line_of_env_that_has_no_effect_though_it_should_is_refused(text, wrong):
    if wrong is None:
        return check_env_file(text)
    with pytest.raises(ConfigError) as raised:
        check_env_file(text)
    assert str(raised.value) == f".env, {wrong}"


def test_env_is_read_as_editors_write_it(tmp_path):
    path = tmp_path / ".env"
    assert read_env_file(path) == {}
    path.write_bytes(b"\xef\xbb\xbfPORT=1\r\nHOST='a\r\nb'\r\n")
    assert read_env_file(path) == {"PORT": "1", "HOST": "a\nb"}
    path.write_bytes(b"PORT=\xff")
    with pytest.raises(ConfigError, match="^.env: expected a text in UTF-8"):
        read_env_file(path)


def test_the_example_file_may_be_copied_with_every_setting_turned_on():
    text = (ROOT / ".env.example").read_text("utf-8")
    check_env_file(re.sub("^#(?=[A-Z])", "", text, flags=re.M))
