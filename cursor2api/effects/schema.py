"""What a JSON Schema says of a value: which JSON types it may have, and what is wrong with it."""

import json
from functools import cache
from itertools import islice

import attrs
from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

UNCOUNTED = {"pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties", "$id", "id", "$anchor",
             "$dynamicAnchor", "$recursiveAnchor"}
DEEP = {"enum", "const", "dependentRequired", "dependencies"}  # looked at below their first level
ERRORS = 10        # that are told of one value
STEPS = 2_000_000  # that the check of one value, or of a schema, may take: about a second


class Checker:
    """Checks JSON texts. Every text is good to a schema that jsonschema cannot use, or not in STEPS."""

    def __init__(self, schema: dict | bool | None):
        self._validator = None
        if not isinstance(schema, dict):
            return
        try:
            kind = validators.validator_for(schema, default=Draft202012Validator)
            schema, made = _harmless(schema), _counting(kind)
            if made(kind.META_SCHEMA, format_checker=_Steps()).is_valid(schema):
                # References lead nowhere but into it.
                self._validator = made(schema, registry=Registry(), format_checker=_Steps())
        except Exception:  # what jsonschema trips over, and _TooLong
            return

    def errors(self, text: str) -> str:
        """What is wrong with the value, for a model to read: at most ERRORS lines, none if it is good."""
        if not self._validator:
            return ""
        try:
            self._validator.format_checker.left = STEPS
            errors = [*islice(self._validator.iter_errors(json.loads(text)), ERRORS)]
        except Exception:  # it refers to what is not in it, or to itself without end, or takes too long
            return ""
        return "\n".join(f"{error.json_path}: {_short(error.message)}" for error in errors)


class _TooLong(Exception):
    pass


class _Steps:
    """What is left of STEPS, in the place of a format checker, which every part of a check can reach."""

    left = STEPS

    def take(self, count):
        self.left -= count
        if self.left < 0:
            raise _TooLong

    def check(self, instance: object, format: str) -> None:
        """Formats are not checked."""


@cache
def _counting(kind):
    """A kind of validator whose keywords and parts count, and whose parts are of no other kind."""
    def counting(word, keyword):
        def check(validator, value, instance, schema):
            size = _nodes(value) if word in DEEP else _length(value)
            validator.format_checker.take(10 + size + _length(instance))
            return keyword(validator, value, instance, schema)
        return check

    def evolve(validator, **changes):
        validator.format_checker.take(1)
        return attrs.evolve(validator, **changes)

    words = {**kind.VALIDATORS, "uniqueItems": _unique}
    made = validators.extend(kind, {word: counting(word, keyword) for word, keyword in words.items()})
    made.evolve = evolve
    return made


def _length(value):
    return len(value) if isinstance(value, (dict, list, str)) else 0


def _nodes(value):
    if isinstance(value, (dict, list)):
        return 1 + sum(map(_nodes, value.values() if isinstance(value, dict) else value))
    return 1


def _unique(validator, wanted, instance, schema):
    """As jsonschema's, in time linear in the instance; 1 and 1.0 are two values."""
    if wanted and isinstance(instance, list):
        if len({json.dumps(item, sort_keys=True) for item in instance}) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _short(message):
    return message if len(message) < 300 else f"{message[:150]} ... {message[-140:]}"


def _harmless(schema):
    """A copy without what cannot be counted: regular expressions, of which a hostile one would hold its
    thread for hours; what other parts have not looked at; names, which jsonschema finds by a walk each time."""
    if isinstance(schema, list):
        return [_harmless(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = UNCOUNTED | ({"additionalProperties"} if "patternProperties" in schema else set())
    copy = {}
    for word, value in schema.items():
        if word in dropped:
            continue
        if word in ("properties", "$defs", "definitions", "dependentSchemas") and isinstance(
                value, dict):
            value = {name: _harmless(each) for name, each in value.items()}
        elif word not in ("enum", "const", "default", "examples"):
            value = _harmless(value)
        copy[word] = value
    return copy


class Shape:
    """What a schema says of one value: the JSON types it may have (None: any) and what is below."""

    def __init__(self, schemas, root):
        self._root = root
        left = [500]  # a schema may refer to itself
        self._plain = [plain for schema in schemas for plain in _plain(schema, root, left)]
        self._below = {}
        types = [_types(plain) for plain in self._plain]
        self._types = None if None in types else set().union(*types)

    def allows(self, kind: str) -> bool:
        types = self._types
        return types is None or kind in types or kind == "integer" and "number" in types

    def below(self, key: str | None) -> "Shape":
        """The shape of the member `key`; None: of an array's items."""
        if self._plain == [{}]:
            return self
        if key is not None and not any(key in _dict(p, "properties") for p in self._plain):
            key = ""
        if key not in self._below:
            word = "array" if key is None else "object"
            found = [p for p in self._plain if word in (_types(p) or {word})]
            self._below[key] = Shape([_sub(p, key) for p in found] or [None], self._root)
        return self._below[key]


def kind_of(value: object) -> str:
    """The JSON type of a value from json.loads."""
    return {bool: "boolean", int: "integer", float: "number", str: "string", list: "array",
            dict: "object"}.get(type(value), "null")


def _sub(plain, key):
    if key is None:
        return plain.get("items") if "prefixItems" not in plain else None
    properties = _dict(plain, "properties")
    if key in properties or "patternProperties" in plain:
        return properties.get(key)
    return plain.get("additionalProperties")


def _dict(schema, word):
    found = schema.get(word)
    return found if isinstance(found, dict) else {}


def _types(plain):
    types = plain.get("type")
    if types is None:
        values = plain["enum"] if isinstance(plain.get("enum"), list) else (
            [plain["const"]] if "const" in plain else None)
        types = values and [kind_of(value) for value in values]
    if isinstance(types, str):
        types = [types]
    if not types or not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        return None
    return {*types, "null"} if plain.get("nullable") is True else {*types}


def _plain(schema, root, left, deep=16):
    """The schemas, free of references and unions, of which one must hold."""
    left[0] -= 1
    if not isinstance(schema, dict) or left[0] < 0 or not deep:
        return [{}]
    found = [{word: value for word, value in schema.items()
              if word not in ("$ref", "allOf", "anyOf", "oneOf")}]
    groups = [[_target(root, schema["$ref"])]] if "$ref" in schema else []
    unions = {word: schema.get(word) for word in ("allOf", "anyOf", "oneOf")}
    unions = {word: each for word, each in unions.items() if each and isinstance(each, list)}
    groups += [[each] for each in unions.pop("allOf", ())] + [*unions.values()]
    for group in groups:
        plains = [plain for each in group for plain in _plain(each, root, left, deep - 1)]
        if len(plains) * len(found) > 64:
            return [{}]
        found = [{**a, **b, "properties": {**_dict(a, "properties"), **_dict(b, "properties")}}
                 for a in found for b in plains]
    return found


def _target(root, ref):
    """What a local reference ("#/$defs/x") points at."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    for name in ref[1:].split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, dict) else None
    return root
