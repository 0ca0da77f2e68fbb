"""The rooms of ARCHITECTURE.md: a module imports only from rooms above its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {name: room for room, names in enumerate([
    ["errors", "events", "config"],
    ["sse", "parameters", "chat", "transforms", "jsonstream", "toolcalls", "jsonreply"],
    ["prompt", "encode"],
    ["models", "upstream", "reply"],
    ["views"]]) for name in names}
ASIDE = {"simulator", "brain"}
PACKAGES = {"requests": {"upstream"}, "werkzeug": {"views", "simulator"}, "os": {"simulator"},
            "jsonschema": {"toolcalls"}, "referencing": {"toolcalls"}, "gunicorn": set(),
            "dotenv": set()}
MODULES = sorted((ROOT / "cursor2api").rglob("*.py"))


def imports(path):
    """(level, dotted name) of each import of a file; names of `from . import x` count as modules."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_keeps_to_its_room(path):
    inside = path.parent.name == "upstream"
    name = "upstream" if inside else path.stem
    for level, module in imports(path):
        first = module.split(".")[0]
        if level == 0:
            assert name in PACKAGES.get(first, {name}), f"{name} imports {first}"
        elif inside and level == 1:
            assert first == "http", f"the adapter {path.stem} imports {first}"
        elif name in ASIDE:
            assert first in ASIDE | {"sse"}
        else:
            assert first not in ASIDE and ROOMS[first] <= ROOMS[name], f"{name} imports {first}"
            if name in ("errors", "events", "config"):
                assert False, f"{name} imports {first}"
