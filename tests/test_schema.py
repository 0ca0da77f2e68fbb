"""What reading and checking by a schema costs, whatever the schema and the text are, and what a check says."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the loads' own process

from cursor2api.effects.jsonreply import only_json
from cursor2api.effects.jsonstream import SLICE, Reader
from cursor2api.effects.schema import Checker
from cursor2api.effects.shape import Shape
from cursor2api.errors import UpstreamError
from cursor2api.events import Finish, Text

MB, SECONDS = 64, 5  # a quiet machine needs at most a fifth of that time


def root():
    return {"$ref": "#"}


def names(count, make):
    return {f"name{n}": make() for n in range(count)}


def nested(keys, value=1):
    for key in reversed(keys):
        value = {key: value}
    return value


def tree(word, levels):
    return {"properties": {"x": root()}} | ({word: 2 * [tree(word, levels - 1)]} if levels else {})


DEEP = 190 * ["x"]
LONG = [300_000 * ["x"]]

# (name, schema, value), each made when it is needed: some are large
LOADS = {
    "a union of 60, 190 deep": lambda: (
        {"anyOf": [{"properties": {"x": root()}} for _ in range(60)]}, nested(DEEP)),
    "a union of 60 that differ, 190 deep": lambda: (
        {"anyOf": [{"properties": {"x": root(), f"y{n}": {}}} for n in range(60)]}, nested(DEEP)),
    "a union of 60 times 60": lambda: (
        {"allOf": [{"anyOf": [{"properties": {f"y{n}": {}, "x": root()}} for n in range(60)]}
                   for _ in range(60)]}, nested(DEEP)),
    "20,000 names, all used, 3 deep": lambda: (
        {"properties": names(20_000, root)}, names(20_000, lambda: nested(["name1", "name2"]))),
    "20,000 names beside a union, 3 deep": lambda: (
        {"properties": names(20_000, root), "anyOf": [{"required": [f"name{n}"]} for n in range(30)]},
        names(20_000, lambda: nested(["name1", "name2"]))),
    "100,000 names, 20 deep": lambda: ({"properties": names(100_000, root)}, nested(20 * ["name5"])),
    "100,000 names, 1,000 of them 20 deep": lambda: (
        {"properties": names(100_000, root)}, names(1000, lambda: nested(19 * ["name7"]))),
    "100,000 names in a union of 60, 20 deep": lambda: (
        {"anyOf": [{"properties": names(1_700, root)} for _ in range(60)]}, nested(20 * ["name5"])),
    "100,000 integers as text": lambda: (
        {"properties": names(100_000, lambda: {"type": "integer"})}, names(100_000, lambda: "5")),
    "a chain of references": lambda: (
        {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(100_000)}},
        nested(DEEP)),
    "two references each": lambda: (
        {"$ref": "#/$defs/a0", "$defs": {f"a{n}": {
            "properties": {"x": root()}, "allOf": [{"$ref": f"#/$defs/a{n + more}"} for more in (1, 2)]}
            for n in range(10_000)}}, nested(DEEP)),
    "references to itself": lambda: ({"allOf": 3 * [root()], "anyOf": 3 * [root()]}, nested(DEEP)),
    "a tree of allOf": lambda: (tree("allOf", 12), nested(DEEP)),
    "a tree of anyOf": lambda: (tree("anyOf", 12), nested(DEEP)),
    "a long allOf": lambda: (
        {"allOf": [{"properties": {"x": root(), f"y{n}": {}}} for n in range(10_000)]}, nested(DEEP)),
    "a schema 100,000 deep": lambda: (nested(50_000 * ["properties", "x"], {}), nested(DEEP)),
    "large enums": lambda: (
        {"properties": {"x": {"anyOf": 20 * [{"enum": [*range(300_000)]}]}}}, {"x": "5"}),
    "many unknown words": lambda: ({"items": names(100_000, int)}, 20_000 * [{}]),
    "a long value with the wrong type": lambda: ({"anyOf": 1000 * [{"type": "string"}]}, LONG),
    "a long value that may never be": lambda: ({"allOf": 1000 * [{"not": False}], "anyOf": 1000 * [False]}, LONG),
    "a long value where a reference says never": lambda: (
        {"additionalProperties": False, "allOf": 1000 * [{"not": {"$ref": "#/additionalProperties"}}]}, LONG),
    "errors within errors": lambda: (
        {"$ref": "#/$defs/v", "$defs": {"v": {"anyOf": 10 * [{"items": {"$ref": "#/$defs/v"}, "minItems": 3}]}}},
        json.loads(60 * "[" + 60 * "]")),
    "unique at each of 150 levels": lambda: (
        {"uniqueItems": True, "items": root()}, json.loads(150 * "[" + json.dumps([*range(50_000)]) + 150 * "]")),
    "100,000 references": lambda: ({"items": {"$ref": "#/$defs/v"}, "$defs": {"v": {}}}, 100_000 * [1]),
}


def read(schema, text):
    reader = Reader(schema)
    for at in range(0, len(text), SLICE):
        reader.feed(text[at:at + SLICE])
    assert reader.done


def check(schema, text):
    Checker(schema).errors(text)


def reply(schema, text):
    text = '{"in": ' + text + "}"
    try:
        whole = {"properties": {"in": schema}, "$defs": schema.get("$defs", {})}
        list(only_json([Text(text), Finish("stop")], whole))
    except UpstreamError as error:
        assert error.code == "invalid_json_from_model"


@pytest.mark.parametrize("name", LOADS)
def test_a_schema_costs_little_memory_and_time(name):
    child = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr[-2000:]
    for use, (mb, seconds) in json.loads(child.stdout).items():
        assert mb < MB and seconds < SECONDS, use


def main(name):
    """Prints for each use the MB that the process has grown by since its start, and the processor's seconds."""
    schema, value = LOADS[name]()
    text = json.dumps(value)
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    most, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}
    for use in (read, check, reply):
        begun = time.process_time()
        use(schema, text)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
        found[use.__name__] = round(grown / 1024, 1), round(time.process_time() - begun, 2)
    print(json.dumps(found))


# (name, schema, text, part of what is wrong; "" if nothing is)
CHECKS = [
    ("anyOf", {"anyOf": [{"type": "string"}, {"type": "null"}]}, "1", "$: 1 is not valid under any"),
    ("anyOf that fits", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "1", ""),
    ("oneOf, none", {"oneOf": [{"type": "string"}, False]}, "1", "$: 1 is valid under 0"),
    ("oneOf, two", {"oneOf": [{}, {"type": "integer"}]}, "1", "$: 1 is valid under 2"),
    ("oneOf that fits", {"oneOf": [{"type": "string"}, True]}, "1", ""),
    ("unique", {"uniqueItems": True}, '[{"a": 1}, {"a": 1}]', "non-unique"),
    ("unique that fits", {"uniqueItems": True}, "[1, 1.0, true]", ""),
    ("a property that may not be", {"properties": {"a": False}}, '{"a": 1}', "$.a: 1 should not"),
    ("no others", {"properties": {"a": {}}, "additionalProperties": False}, '{"b": 1}', "'b' was unexpected"),
    ("no items", {"items": False}, "[1]", "Expected at most 0 items"),
    ("below a reference", {"items": {"$ref": "#/$defs/v"}, "$defs": {"v": {"minimum": 3}}}, "[2]", "$[0]: 2"),
    ("a pattern within data", {"properties": {"a": {"$ref": "#/default"}}, "default": {"pattern": "^b"}},
     '{"a": "a"}', ""),
    ("a pattern where a draft knows no $defs", {
        "$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"$ref": "#/$defs"}},
        "$defs": {"pattern": "^b"}}, '{"a": "a"}', ""),
    ("patterns of names within data", {"properties": {"a": {"$ref": "#/default"}}, "default": {
        "patternProperties": {"^b": False}, "additionalProperties": False}}, '{"a": {"a": 1, "b": 1}}', ""),
    ("no others within data", {"properties": {"a": {"$ref": "#/default"}}, "default": {
        "additionalProperties": False}}, '{"a": {"b": 1}}', "'b' was unexpected"),
    ("20 deep", nested(20 * ["properties", "x"], {"type": "string"}), json.dumps(nested(20 * ["x"])),
     ".x: 1 is not of type 'string'"),
]


@pytest.mark.parametrize("name, schema, text, wrong", CHECKS, ids=[row[0] for row in CHECKS])
def test_what_is_wrong_is_told(name, schema, text, wrong):
    errors = Checker(schema).errors(text)
    assert wrong in errors and bool(wrong) == bool(errors)


# (name, schema, keys that lead to the value, what it may be)
SHAPES = [
    ("types of both parts of an allOf",
     {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}, [], {"integer"}),
    ("a union's", {"anyOf": [{"type": "string"}, {"enum": [1, None]}]}, [], {"string", "integer", "null"}),
    ("a union of 64", {"anyOf": [{"const": n} for n in range(64)]}, [], {"integer"}),
    ("a union of 65 counts for nothing", {"anyOf": [{"const": n} for n in range(65)]}, [], None),
    ("but what stands beside it counts", {"type": "integer", "anyOf": [{"const": n} for n in range(65)]}, [],
     {"integer"}),
    ("a member by a reference in a union", {"anyOf": [{"properties": {"x": root()}}, {"type": "integer"}]},
     ["x", "x"], None),
    ("where only one of a union may be an object",
     {"anyOf": [{"type": "object", "properties": {"x": {"type": "integer"}}}, {"type": "string"}]},
     ["x"], {"integer"}),
    ("items", {"items": {"type": "integer"}}, [None], {"integer"}),
    ("other members", {"properties": {"x": {}}, "additionalProperties": {"type": "integer"}}, ["y"], {"integer"}),
    ("a member called as the name of what is kept", {"properties": {"": {"type": "integer"}}}, [""], {"integer"}),
    ("a reference with escapes", {"$ref": "#/a~1b/~0", "a/b": {"~": {"type": "null"}}}, [], {"null"}),
]


@pytest.mark.parametrize("name, schema, keys, kinds", SHAPES, ids=[row[0] for row in SHAPES])
def test_the_types_that_a_value_may_have(name, schema, keys, kinds):
    shape = Shape.of(schema)
    for key in keys:
        shape = shape.below(key)
    every = ("object", "array", "string", "number", "integer", "boolean", "null")
    assert {kind for kind in every if shape.allows(kind)} == (kinds or {*every})


def test_a_number_may_be_an_integer_and_equal_places_share_a_shape():
    shape = Shape.of({"type": "number"})
    assert shape.allows("integer") and not shape.allows("string")
    tree = Shape.of({"properties": {"x": root()}})
    assert tree.below("x") is tree and tree.below("y") is tree.below("z")


if __name__ == "__main__":
    main(*sys.argv[1:])
