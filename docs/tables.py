"""Writes into the documents what the code knows: `make docs`, or `python -m docs.tables`.

Each table and example has one source: the service's reference (`/reference.json`), the parameters of the
dialects, or `static/examples`. It stands in a document between
`<!-- table: NAME -->`, or `<!-- example: FILE -->`, and the next `<!-- end -->`. `.env.example` and
`docs/clients.md` are made as a whole. tests/test_docs.py fails if a file is not what would be written.
"""

import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from cursor2api.clients.catalog import CLIENTS
from cursor2api.clients.document import document
from cursor2api.config import Config
from cursor2api.dialects.served import DIALECTS
from cursor2api.server.reference import reference
from cursor2api.server.views import routes

ROOT = Path(__file__).resolve().parent.parent
ABOUT = reference(Config(), version="", started=0, routes=routes(), examples={
    path.name: path.read_text("utf-8") for path in (ROOT / "static/examples").iterdir()})
PLACE = re.compile(r"(?s)<!-- (table|example): ([\w.-]+) -->\n.*?<!-- end -->")
LANGUAGES = {".sh": "sh", ".py": "python", ".mjs": "js"}


def files() -> dict[Path, str]:
    """The text that each file must have."""
    documents = [*ROOT.glob("README*.md"), *sorted((ROOT / "docs").glob("*.md"))]
    return {**{path: filled(path.read_text("utf-8")) for path in documents}, ROOT / ".env.example": env_example(),
            ROOT / "docs/clients.md": document(CLIENTS)}


def filled(document: str) -> str:
    """The document with its tables and examples as the code has them. KeyError: there is none of a name."""
    parts = {"table": tables(),
             "example": {name: block(name, text) for name, text in ABOUT["examples"].items()}}
    return PLACE.sub(
        lambda place: f"<!-- {place[1]}: {place[2]} -->\n\n{parts[place[1]][place[2]]}\n\n<!-- end -->", document)


def tables() -> dict[str, str]:
    """Every table by its name; those of parameters have the name of their dialect."""
    return {
        "routes": table(("route", "needs", "answer"), (
            (f"`{each['method']} {each['path']}`", "key" if each["key"] else "", each["what"])
            for each in ABOUT["routes"])),
        "headers": table(("header", "meaning"), (
            (f"`{each['name']}`", each["what"]) for each in ABOUT["headers"])),
        "errors": table(("status", "type", "code", "when"), (
            (str(each["status"]), f"`{each['type']}`",
             ", ".join(f"`{code or json.dumps(code)}`" for code in each["codes"]), each["when"])
            for each in ABOUT["errors"])),
        "settings": table(("name", "default", "what"), (
            (f"`{each['name']}`", f"`{each['default']}`" if each["default"] else "", each["help"])
            for each in ABOUT["settings"])),
        **{dialect.name: table(("parameter", "type", "range", "effect", "what"), (
            (f"`{each.name}`", each.type, each.range, each.effect, each.what) for each in dialect.parameters))
           for dialect in DIALECTS}}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|",
                      *("| " + " | ".join(row) + " |" for row in rows)])


def block(name: str, text: str) -> str:
    return f"```{LANGUAGES[Path(name).suffix]}\n{text.rstrip()}\n```"


def env_example() -> str:
    parts = ["# Every setting, with its default. Copy to .env beside app.py; the environment goes before it."]
    for each in ABOUT["settings"]:
        help = textwrap.wrap(f"{each['help'][0].upper()}{each['help'][1:]}.", 96, break_on_hyphens=False)
        parts.append("\n".join(f"# {line}" for line in help) + f"\n#{each['name']}={each['default']}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for path, text in files().items():
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)} is written anew")
