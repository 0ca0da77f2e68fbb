"""The rooms of ARCHITECTURE.md: a module imports only from rooms above its own."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cursor2api"
ROOMS = {name: room for room, names in enumerate([
    ["errors", "events", "config", "logs", "tokens", "server.record"],
    ["dialects.parameters", "models", "effects.schema", "effects.shape", "effects.textbuilder"],
    ["chat", "effects.jsonstream"],
    ["prompt", "effects.transforms", "effects.declared_tools", "effects.jsonreply"],
    ["effects.unmarked"],
    ["effects.toolcalls", "dialects.encode"],
    ["effects.reply"],
    ["agents.fingerprint"],
    ["held", "server.keys"],
    ["agents.store"],
    ["agents.redis_store"],
    ["agents.agents"],
    ["upstream.sse", "upstream.http", "upstream.cleaner"],
    ["upstream.sdk.bridge"],
    ["upstream", "upstream.cloud", "upstream.sdk.adapter", "upstream.uistream"],
    ["server.slots", "server.metrics", "server.page", "server.sse"],
    ["server.service", "server.reference"],
    ["server.views"],
    ["server.dispatch"],
    ["server.worker"]]) for name in names}
SIMULATOR = {"simulator.brain", "simulator.demands", "simulator.runs", "simulator.cursor"}
ASIDE = {
    **{name: SIMULATOR - {name} for name in SIMULATOR}, "simulator.bridge": {"simulator.cursor"},
    "simulator": SIMULATOR, "simulator.__main__": SIMULATOR,
    "upstream.sdk.keeper": set(),
    "doctor.recorder": {"events", "prompt"}, "doctor.__main__": {"doctor.doctor"},
    "doctor.doctor": {"config", "errors", "doctor.recorder"}}
PURE = {name for name, room in ROOMS.items() if room <= ROOMS["agents.fingerprint"]} - {
    "logs", "models", "effects.reply"}
WORLD = {"os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}
FOREIGN = {
    "effects.schema": {"attrs", "jsonschema", "referencing"},
    "upstream.http": {"certifi"}, "server.metrics": {"prometheus_client"}, "agents.redis_store": {"redis"},
    "server.page": {"werkzeug"}, "server.views": {"werkzeug"}, "server.dispatch": {"werkzeug"},
    "server.worker": {"gunicorn"}, "simulator.cursor": {"werkzeug"}, "simulator.demands": {"werkzeug"},
    "doctor.doctor": {"app", "werkzeug"}}


def module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}
for empty in ("__init__", "agents", "dialects", "doctor", "effects", "server", "upstream.sdk"):
    MODULES.pop(empty)


def imports(name, path):
    """(modules of ours, packages of others) that a file imports anywhere in it."""
    ours, others = set(), set()
    inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            others |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            others.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = inside[:len(inside) + 1 - node.level] + (node.module or "").split(".")
            base = ".".join(filter(None, base))
            names = {f"{base}.{alias.name}".strip(".") for alias in node.names}
            ours |= (names & MODULES.keys()) or {base}
    return ours, {other.partition(".")[0] for other in others}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_rooms_above_it(name):
    ours, _ = imports(name, MODULES[name])
    allowed = ASIDE[name] if name in ASIDE else {
        other for other, room in ROOMS.items() if room < ROOMS[name]}
    assert ours <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_no_package_but_its_own_few(name):
    _, others = imports(name, MODULES[name])
    assert others - sys.stdlib_module_names <= FOREIGN.get(name, set())


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_inner_rooms_know_no_clock_no_chance_and_no_files(name):
    _, others = imports(name, MODULES[name])
    assert not others & WORLD


def test_only_the_start_reads_the_environment():
    files = [*MODULES.values(), *ROOT.glob("*.py")]
    touching = {path.name for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if getattr(node, "attr", getattr(node, "id", "")) in ("environb", "getenv", "putenv")
                or isinstance(node, ast.Attribute) and node.attr == "environ"
                and isinstance(node.value, ast.Name) and node.value.id == "os"
                or isinstance(node, ast.ImportFrom) and node.module == "os"}
    assert touching == {"app.py", "gunicorn.conf.py"}
