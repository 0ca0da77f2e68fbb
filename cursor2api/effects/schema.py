"""Checks JSON texts against a JSON Schema, for a bounded price whatever the schema and the text are.

jsonschema does the checking. It is a caller's schema and a model's text, so each step of it is counted:
a schema that takes too many steps, or that jsonschema cannot use, checks nothing, and every text is good
to it. The model was shown it all the same.
"""

import json
from functools import cache, partial
from itertools import islice

import attrs
from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

ERRORS = 10        # that are told of one value
STEPS = 2_000_000  # that the check of one schema, or of one value, may take: about a second
COPIED, FAILED = 100, 100  # steps for a copied node and for an error, because of the memory they need

# Left out, because their cost cannot be counted: regular expressions (a hostile one runs for hours),
# `unevaluated…` (jsonschema goes through all other words of the schema for them), and `$id` and anchors (it
# searches the whole schema for them each time).
UNCOUNTED = {"pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties", "$id", "id", "$anchor",
             "$dynamicAnchor", "$recursiveAnchor"}
BY_NAME = {"properties", "$defs", "definitions", "dependentSchemas"}  # words whose value has a schema by name
DATA = {"enum", "const", "default", "examples"}  # words whose value is no schema
ONE = {"not", "if", "then", "else", "contains", "propertyNames"}  # words whose value is one schema
NEVER = {"not": {}}  # says the same as false
DEEP = {"enum", "const", "dependentRequired", "dependencies"}  # words that look below their value's first level


class Checker:
    """Checks JSON texts against one schema."""

    def __init__(self, schema: dict | bool | None):
        self._validator = None
        if not isinstance(schema, dict):
            return
        try:
            kind = validators.validator_for(schema, default=Draft202012Validator)
            schema, made = _countable(schema, _Steps()), _counting(kind)
            if made(kind.META_SCHEMA, format_checker=_Steps()).is_valid(schema):
                # With an empty registry a reference leads nowhere but into the schema.
                self._validator = made(schema, registry=Registry(), format_checker=_Steps())
        except Exception:  # _TooLong, or whatever jsonschema trips over
            return

    def errors(self, text: str) -> str:
        """What is wrong with the value, for a model to read: at most ERRORS lines, none if it is good."""
        if not self._validator:
            return ""
        try:
            self._validator.format_checker.left = STEPS
            errors = [*islice(self._validator.iter_errors(json.loads(text)), ERRORS)]
        except Exception:  # _TooLong, or a reference to nothing or to itself without end
            return ""
        return "\n".join(f"{error.json_path}: {_short(error.message)}" for error in errors)


class _TooLong(Exception):
    pass


class _Steps:
    """What is left of STEPS. It takes the place of a format checker, which every part of a check can reach."""

    left = STEPS

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _TooLong

    def fail(self, error: ValidationError) -> ValidationError:
        """Takes what an error costs, unless it is one of a part, where it was taken before."""
        if not error.relative_schema_path:
            self.take(FAILED + len(error.message))
        return error

    def check(self, instance: object, format: str) -> None:
        """Formats are not checked."""


@cache
def _counting(kind):
    """A kind of validator whose keywords and parts count, and whose parts are of no other kind."""
    def counting(word, keyword):
        def check(validator, value, instance, schema):
            steps = validator.format_checker
            steps.take(10 + (_nodes(value) if word in DEEP else _length(value)) + _length(instance))
            return map(steps.fail, keyword(validator, value, instance, schema) or ())
        return check

    def evolve(validator, **changes):
        validator.format_checker.take(1 + _length(changes.get("schema")) // 8)
        return attrs.evolve(validator, **changes)

    words = {**kind.VALIDATORS, "uniqueItems": _unique, "anyOf": _any_of, "oneOf": _one_of,
             "additionalProperties": partial(_additional_properties, kind.VALIDATORS["additionalProperties"]),
             **dict.fromkeys(UNCOUNTED, _nothing)}  # a reference can lead to them where _countable saw only data
    made = validators.extend(kind, {word: counting(word, keyword) for word, keyword in words.items()})
    made.evolve = evolve
    return made


def _length(value):
    return len(value) if isinstance(value, (dict, list, str)) else 0


def _nodes(value):
    if isinstance(value, (dict, list)):
        return 1 + sum(map(_nodes, value.values() if isinstance(value, dict) else value))
    return 1


def _nothing(validator, value, instance, schema):
    """Checks nothing."""


# The keywords below do as jsonschema's do, but for what theirs cost.

def _additional_properties(theirs, validator, value, instance, schema):
    """Not beside patternProperties, whose regular expressions would decide which are additional."""
    return () if "patternProperties" in schema else theirs(validator, value, instance, schema)


def _unique(validator, wanted, instance, schema):
    """In time linear in the instance; 1 and 1.0 are two values."""
    if wanted and isinstance(instance, list):
        found = set()
        for item in instance:
            text = json.dumps(item, sort_keys=True)
            validator.format_checker.take(len(text))
            found.add(text)
        if len(found) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _any_of(validator, schemas, instance, schema):
    """Without keeping what is wrong by each of the schemas."""
    if not any(_fits(validator, each, instance) for each in schemas):
        yield ValidationError(f"{instance!r} is not valid under any of the given schemas")


def _one_of(validator, schemas, instance, schema):
    """Without keeping what is wrong by each of the schemas."""
    fitting = sum(_fits(validator, each, instance) for each in schemas)
    if fitting != 1:
        yield ValidationError(f"{instance!r} is valid under {fitting} of the given schemas, expected 1")


def _fits(validator, schema, instance):
    return next(validator.descend(instance, schema), None) is None


def _short(message):
    return message if len(message) < 300 else f"{message[:150]} ... {message[-140:]}"


def _countable(schema, steps):
    """A copy of a schema without what is UNCOUNTED. `false` becomes NEVER, because jsonschema makes the errors of
    `false` without a keyword, so they would not be counted."""
    if schema is False:
        return NEVER
    if isinstance(schema, list):
        steps.take(len(schema))
        return [_countable(each, steps) for each in schema]
    if not isinstance(schema, dict):
        return schema
    steps.take(COPIED + len(schema))
    dropped = UNCOUNTED | ({"additionalProperties"} if "patternProperties" in schema else set())
    copy = {}
    for word, value in schema.items():
        if word in BY_NAME and isinstance(value, dict):
            steps.take(len(value))
            copy[word] = {name: _countable(each, steps) for name, each in value.items()}
        elif word not in dropped:
            plain = word in DATA or isinstance(value, bool) and word not in ONE
            copy[word] = value if plain else _countable(value, steps)
    return copy
