"""The documents are true: every setting, route and parameter stands in them as the code has it."""

from dataclasses import fields
from pathlib import Path

import pytest

from cursor2api.config import Config
from cursor2api.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", [option.name.upper() for option in fields(Config)])
def test_a_setting_is_documented(name):
    assert f"| `{name}` |" in README
    assert f"#{name}=" in (ROOT / ".env.example").read_text("utf-8")


@pytest.mark.parametrize("parameter", PARAMETERS, ids=[each.name for each in PARAMETERS])
def test_a_parameter_stands_in_the_readme_as_in_the_table(parameter):
    assert (f"| `{parameter.name}` | {parameter.type} | {parameter.range} | {parameter.effect} | "
            f"{parameter.what} |") in README


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/models/{id}", "/v1/chat/completions"])
def test_a_route_is_in_the_readme_and_on_the_page(path):
    assert path in README and path in (ROOT / "static" / "index.html").read_text("utf-8")
