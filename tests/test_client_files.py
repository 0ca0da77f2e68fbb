"""The clients' files as text: each can be read as what it is, and holds what it was made from."""

import ast
import json
import re

import pytest
import requests

from cursor2api.clients import Gateway, Model
from cursor2api.clients.catalog import CLIENTS

WORDS = "http://127.0.0.1:8002", "a-key", "claude-sonnet-4-5-20250929"
GATEWAY = Gateway(*WORDS[:2], (Model(WORDS[2], 200_000), Model("gpt-5.5", 1_000_000)))
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def test_every_name_is_there_once():
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


@every_client
def test_what_the_page_gets_has_the_words_that_it_replaces_and_no_context(client, gate):
    shown = requests.get(gate.url + "/clients.json", timeout=10).json()["clients"]
    row = next(row for row in shown if row["name"] == client.name)
    filled = json.dumps([row["files"], row["run"]])
    for word, value in zip(("__ADDRESS__", "__KEY__", "__MODEL__"), WORDS):
        assert word in filled
        filled = filled.replace(word, value)
    assert not re.search(r"__[A-Z]+__|\b200_?000\b|None", filled)
    assert row.keys() == {"name", "title", "files", "run", "turn_off", "cannot"}


@every_client
def test_every_file_can_be_read(client):
    readers = {"json": json.loads, "python": ast.parse}
    for file in client.files(GATEWAY):
        readers.get(file.language, str)(file.text)
        assert file.text.endswith("\n") and not file.text.endswith("\n\n")
