"""The documents are true: tables are the code's, links lead somewhere, examples do what is said of them."""

import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests
from conftest import MODEL, ROOT, gateway
from dotenv import dotenv_values
from test_development import nginx

from cursor2api.config import Config
from cursor2api.errors import KINDS
from cursor2api.server.reference import settings
from docs import tables

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKED = [*READMES, *PAGES, ROOT / "ARCHITECTURE.md"]
OTHERS = {"clients.md"}  # made of the clients' templates, and tested with them
HERE = "http://127.0.0.1:8002"
# What no test can run, and why; a block that holds a line which begins so is left alone.
NOT_RUN = {
    r"make run|HOST=\S+ .*make run": "it serves until it is ended: test_start.py starts it",
    r"python3 -m venv": "it installs packages: CI does so on each Python",
    r"make doctor": "it asks an upstream that is set up: test_doctor.py does so",
    r"make soak": "it takes a minute: test_soak.py has it in short",
    r"docker ": "it needs Docker and pulls images",
}


@dataclass(frozen=True)
class Block:
    where: str
    language: str
    text: str
    prints: str | None  # what the text block right behind it says, ... being anything


def blocks():
    fence = r"```(\w*)\n(.*?)^```\n"
    for path in [*READMES, *(page for page in PAGES if page.name not in OTHERS)]:
        text = path.read_text("utf-8")
        for found in re.finditer(rf"(?ms)^{fence}(?:\s|<!-- end -->)*(?:^```text\n(.*?)^```\n)?", text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(f"{path.name}:{line}", found[1], found[2], found[3])


BLOCKS = list(blocks())


def of(*languages):
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in languages],
                                   ids=lambda block: block.where)


def reasons(block):
    return [start for start in NOT_RUN if re.search(rf"(?m)^(?:{start})", block.text)]


@pytest.fixture(scope="module")
def served():
    """As `make run` serves, so the key is 0000."""
    with gateway(development=True) as one:
        yield one


@of("sh", "python")
def test_an_example_does_what_the_document_says(served, block):
    if reasons(block):
        return
    command = ["bash", "-e"] if block.language == "sh" else [sys.executable]
    run = subprocess.run(command, input=block.text.replace(HERE, served.url), text=True, capture_output=True,
                         timeout=60, cwd=ROOT)
    assert run.returncode == 0 and run.stdout.strip() and '"error": {' not in run.stdout, run
    if block.prints:
        parts = (re.escape(part.strip()) for part in block.prints.split("..."))
        assert re.search(r"\s*.*?".join(parts), run.stdout, re.S), run.stdout


@of("dotenv")
def test_settings_of_a_document_are_settings(block):
    values = dotenv_values(stream=io.StringIO(block.text))
    assert values and set(values) <= {each["name"] for each in settings()}
    Config.read(values)


@of("nginx")
def test_nginx_passes_on_a_stream_as_it_comes(block):
    """Also one to a request of 2 MB; its first delta leaves nginx while Cursor still speaks."""
    slow = {"replies": [{"text": "one two three " * 20, "chunk": 7, "delay": 1, "times": 0}]}
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "x" * 2_000_000}]}
    with (gateway(slow, {"MAX_INPUT_LENGTH": "0"}) as gate,
          TemporaryDirectory() as folder,  # nginx's own user cannot reach pytest's
          nginx(Path(folder), block.text.replace(HERE, gate.url)) as url):
        with requests.post(url + "/v1/chat/completions", json=body, stream=True, timeout=60,
                           headers={"Authorization": "Bearer 0000"}) as reply:
            assert reply.ok, reply.text
            assert any(b'"content":"one' in line for line in reply.iter_lines()) and gate.agents()


def test_every_block_is_run_or_has_its_reason():
    assert {block.language for block in BLOCKS} <= {"sh", "python", "dotenv", "nginx"}
    assert not [path.name for path in [*READMES, *PAGES] if re.search(r"\n\n(    |\t)", path.read_text("utf-8"))]
    assert {reason for block in BLOCKS for reason in reasons(block)} == set(NOT_RUN)


@pytest.mark.parametrize("path, text", tables.files().items(), ids=lambda part: getattr(part, "name", ""))
def test_a_table_is_what_the_code_has(path, text):
    """`make docs` writes it."""
    assert path.read_text("utf-8") == text


def test_every_table_stands_in_a_document():
    text = "".join(path.read_text("utf-8") for path in PAGES)
    assert all(f"<!-- table: {name} -->" in text for name in tables.tables())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.status in (401, 403) or kind.status > 405],
                         ids=lambda kind: f"{kind.status}-{kind.codes[0]}")
def test_it_is_said_what_to_do_about_each_error(kind):
    text = (ROOT / "docs/errors.md").read_text("utf-8").partition("## What to do")[2]
    lines = [line for line in text.splitlines()
             if line.startswith("| ") and str(kind.status) in line.split("|")[1]]
    assert lines and all(any(f"`{code or kind.type}`" in line for line in lines)
                         for code in kind.codes if code is not None)


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_the_settings_of_a_readme_have_their_defaults(path):
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\| .+ \|$", path.read_text("utf-8"), re.M)
    defaults = {each["name"]: each["default"] for each in settings()}
    assert len(rows) == 10 and all(defaults.get(name, "") == default for name, default in rows)


def test_both_readmes_have_the_same_parts():
    shapes = [re.findall(r"^(## |\||```|- |\d\. )", path.read_text("utf-8"), re.M) for path in READMES]
    assert shapes[0] == shapes[1]
    blocks = [[block.text for block in BLOCKS if block.where.startswith(path.name)] for path in READMES]
    assert blocks[0] == blocks[1]
    assert all(len(path.read_text("utf-8").splitlines()) <= 150 for path in READMES)


def anchors(path):
    """What GitHub makes of the headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_what_a_document_names_is_there(path):
    named = re.findall(r"\]\(([\w./-]*)(?:#([^)]+))?\)|(?:src|srcset)=\"([\w./-]+)\"", path.read_text("utf-8"))
    for link, anchor, image in named:
        to = (path.parent / (link or image)).resolve() if link or image else path
        assert to.is_file(), to
        assert not anchor or anchor in anchors(to), anchor
