"""The documents are true: what stands in README.md's tables and examples is what the code has."""

import json
import re
from pathlib import Path

import pytest

from cursor2api.config import Config
from cursor2api.dialects.served import DIALECTS
from cursor2api.errors import KINDS
from cursor2api.server.reference import reference
from cursor2api.server.views import routes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
ABOUT = reference(Config(), version="1", started=0, routes=routes(), examples={})


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def codes(kind):
    return ", ".join(f"`{code or json.dumps(code)}`" for code in kind["codes"])


ROWS = [
    *(row(f"`{each['method']} {each['path']}`", "key" if each["key"] else "", each["what"])
      for each in ABOUT["routes"]),
    *(row(f"`{each['name']}`", each["what"]) for each in ABOUT["headers"]),
    *(row(str(each["status"]), f"`{each['type']}`", codes(each), each["when"]) for each in ABOUT["errors"]),
    *(row(f"`{each['name']}`", each["type"], each["range"], each["effect"], each["what"])
      for each in ABOUT["parameters"]),
    *(row(f"`{each.name}`", each.type, each.range, each.effect, each.what)
      for dialect in DIALECTS for each in dialect.parameters),
    *(row(f"`{each['name']}`", f"`{each['default']}`" if each["default"] else "", each["help"])
      for each in ABOUT["settings"])]


@pytest.mark.parametrize("line", ROWS)
def test_the_readme_has_each_row_of_the_reference(line):
    assert line in README.splitlines()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.status in (401, 403) or kind.status > 405],
                         ids=lambda kind: f"{kind.status}-{kind.codes[0]}")
def test_the_operations_section_has_a_line_for_each_outcome(kind):
    lines = [line for line in README.partition("## Operations")[2].partition("\n## ")[0].splitlines()
             if line.startswith("| ") and str(kind.status) in line.split("|")[1]]
    assert lines and all(any(f"`{code or kind.type}`" in line for line in lines)
                         for code in kind.codes if code is not None)


def test_every_setting_can_be_copied_from_the_example_file_with_its_help():
    _, *blocks = (ROOT / ".env.example").read_text("utf-8").rstrip("\n").split("\n\n")
    shown = [block.replace("\n# ", " ") for block in blocks]
    assert shown == [f"# {each['help'][0].upper()}{each['help'][1:]}.\n#{each['name']}={each['default']}"
                     for each in ABOUT["settings"]]


@pytest.mark.parametrize("name, least", [("README.md", 5), ("README.zh-CN.md", 2)])
def test_an_example_of_a_readme_is_the_pages_own(name, least):
    blocks = [re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(
        r"(?<=\n\n)(?:    (?:curl http|curl -N http|from openai)[^\n]*\n)(?:    [^\n]*\n|\n(?=    ))*",
        (ROOT / name).read_text("utf-8"))]
    examples = {path.read_text() for path in (ROOT / "static/examples").iterdir()}
    assert len(blocks) >= least and set(blocks) <= examples


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "ARCHITECTURE.md"])
def test_what_a_document_names_is_there(name):
    text = (ROOT / name).read_text("utf-8")
    named = re.findall(r"\]\(([\w./-]+)\)|(?:src|srcset)=\"([\w./-]+)\"", text)
    assert all((ROOT / (link or image)).is_file() for link, image in named)
    assert name == "ARCHITECTURE.md" or any("docs/" in (link or image) for link, image in named)
