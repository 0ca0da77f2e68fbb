"""The rooms of ARCHITECTURE.md: a module imports only from rooms above its own."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cursor2api"
ROOMS = {name: room for room, names in enumerate([
    # 1: no I/O, clock, environment or randomness
    ["errors", "events", "config", "logs", "tokens"],
    ["chat", "models"],
    ["fold", "prompt"],
    # 2: effects and dialects, strangers to each other
    ["effects.schema", "effects.shape", "effects.textbuilder"],
    ["effects.jsonstream"],
    ["effects.transforms", "effects.declared_tools", "effects.jsonreply"],
    ["effects.unmarked"],
    ["effects.toolcalls"],
    ["effects.reply"],
    ["dialects.checks"],
    ["dialects"],
    ["dialects.chat_completions", "dialects.responses.stored", "dialects.messages.writer",
     "dialects.messages.parse"],
    ["dialects.responses.parse"],
    ["dialects.responses.writer", "dialects.messages"],
    ["dialects.responses"],
    ["dialects.served"],
    # 3: agents and upstream, strangers to each other
    ["state"],
    ["state.sqlite_store", "state.redis_store"],
    ["state.store"],
    ["server.keys"],
    ["agents.fingerprint"],
    ["agents.conversation", "agents.warm"],
    ["agents.agents"],
    ["upstream.sse", "upstream.http", "upstream.usage", "upstream.cursor"],
    ["upstream.run"],
    ["upstream.sdk.place"],
    ["upstream.sdk.bridge"],
    ["upstream", "upstream.cloud", "upstream.sdk.adapter", "upstream.uistream"],
    # beside them: what clients need, as text
    ["clients"],
    ["clients.document", "clients.opencode"],
    [f"clients.{name}" for name in (
        "aider", "claude_code", "cline", "codex", "continue_", "copilot", "kilo", "langchain", "librechat", "llm",
        "open_webui", "openai_sdk", "qwen", "roo", "zed")],
    ["clients.catalog"],
    # 4
    ["server.counts", "server.record", "server.slots", "server.page", "server.markup",
     "server.development"],
    ["server.metrics", "server.model_lists", "server.replay", "server.request", "server.sse"],
    ["server.service", "server.reference"],
    ["server.deadline"],
    ["server.serve", "server.views"],
    ["server.dispatch"],
    ["server.incoming"],
    ["server.worker", "start"]]) for name in names}
STRANGERS = {"effects": {"dialects"}, "dialects": {"effects"},  # to each folder those of which it knows nothing
             "agents": {"dialects", "effects", "upstream"}, "upstream": {"dialects", "effects", "agents"},
             "clients": {"dialects", "effects", "agents", "upstream", "state", "server"}}
SIMULATOR = {"simulator.brain", "simulator.demands", "simulator.runs", "simulator.cursor"}
ASIDE = {
    **{name: SIMULATOR - {name} for name in SIMULATOR}, "simulator.bridge": {"simulator.cursor"},
    "simulator": SIMULATOR, "simulator.__main__": SIMULATOR,
    "upstream.sdk.keeper": set(),
    "development_start": {"config", "doctor.doctor", "errors", "models", "start"},
    "clients.__main__": {"clients", "clients.catalog", "config", "start"},
    "doctor.tools": set(), "doctor.recorder": {"events", "prompt"}, "doctor.__main__": {"doctor.doctor"},
    "doctor.doctor": {"config", "errors", "start", "doctor.recorder", "doctor.tools"}}
PURE = {name for name, room in ROOMS.items() if room <= ROOMS["dialects.served"]} - {"logs"} | {
    "agents.fingerprint"} | {name for name in ROOMS if name.startswith("clients")}
WORLD = {"os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}
FOREIGN = {
    "effects.schema": {"attrs", "jsonschema", "referencing"},
    "upstream.http": {"certifi", "requests", "urllib3"}, "server.metrics": {"prometheus_client"},
    "state.redis_store": {"redis"},
    "server.page": {"werkzeug"}, "server.request": {"werkzeug"}, "server.serve": {"werkzeug"},
    "server.views": {"werkzeug"}, "server.dispatch": {"werkzeug"},
    "server.worker": {"gunicorn"}, "simulator.cursor": {"werkzeug"}, "simulator.demands": {"werkzeug"},
    "start": {"dotenv"}}


def module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}
for empty in ("__init__", "agents", "doctor", "effects", "server", "upstream.sdk"):
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
    assert ours <= allowed | {""}  # the package itself, which has the version


@pytest.mark.parametrize("name", MODULES)
def test_strangers_do_not_import_from_each_other(name):
    ours, _ = imports(name, MODULES[name])
    assert not {one.split(".")[0] for one in ours} & STRANGERS.get(name.split(".")[0], set())


@pytest.mark.parametrize("name", MODULES)
def test_only_the_list_of_those_that_are_served_names_a_dialect(name):
    ours, _ = imports(name, MODULES[name])
    types = {"dialects", "dialects.checks", "dialects.served"}
    if name.startswith("dialects."):  # a dialect may be a folder
        types |= {other for other in MODULES if other.startswith(".".join(name.split(".")[:2]))}
    assert name == "dialects.served" or {one for one in ours if one.startswith("dialects")} <= types


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_no_package_but_its_own_few(name):
    _, others = imports(name, MODULES[name])
    assert others - sys.stdlib_module_names <= FOREIGN.get(name, set())


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_inner_rooms_know_no_clock_no_chance_and_no_files(name):
    _, others = imports(name, MODULES[name])
    assert not others & WORLD


def test_only_the_starts_read_the_environment():
    """And the keeper, a process of its own, reads what its worker gives it."""
    files = [*MODULES.values(), *ROOT.glob("*.py")]
    touching = {path.name for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if getattr(node, "attr", getattr(node, "id", "")) in ("environb", "getenv", "putenv")
                or isinstance(node, ast.Attribute) and node.attr == "environ"
                and isinstance(node.value, ast.Name) and node.value.id == "os"
                or isinstance(node, ast.ImportFrom) and node.module == "os"}
    assert touching == {"start.py", "development_start.py", "gunicorn.conf.py", "keeper.py"}
