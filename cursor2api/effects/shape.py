"""Which JSON types a schema lets a value have, for a reader that meets one value after the other.

`Shape.of(schema)` is the shape of the whole value; `below` leads to the shape of a member or an item. Where
a schema lists possibilities (`anyOf`), a shape has several choices, of which one must hold; what must hold
together (`allOf`, `$ref`) makes one choice of several nodes. Nodes are the schema's own objects, never
copies, and places with equal choices share one shape, so memory grows neither with the depth of the value
nor with the combinations that are possible. Each look into the schema takes from the STEPS that all shapes
of one `of` share; when they are used up, every shape that is still to be found allows everything.
"""

from collections.abc import Iterable

STEPS = 500_000  # less than half a second, and memory of at most some 10 MB
CHOICES = 64     # a union of more allows everything
DEPTH = 16       # of references and unions within one another; what is below allows everything
REMEMBERED, MADE = 10, 50  # steps that a dictionary's entry and a shape take, for the memory they need

ALL = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
WORDS = frozenset(("type", "enum", "const", "nullable", "properties", "patternProperties",
                   "additionalProperties", "items", "prefixItems"))  # those that a node is read for


class Shape:
    """What a schema says of one value."""

    __slots__ = ("_source", "choices", "kinds", "members")

    def __init__(self, source: "_Source | None", choices: list[tuple], kinds: frozenset[str]):
        self._source, self.choices, self.kinds = source, choices, kinds
        self.members: dict[str | None, Shape] = {}  # that were found, by key

    @staticmethod
    def of(schema: object) -> "Shape":
        """The shape of a value that `schema` describes, or `schema` itself if it is a shape."""
        if isinstance(schema, Shape):
            return schema
        return _Source(schema).shape([(schema,)]) if isinstance(schema, dict) else ANYTHING

    def allows(self, kind: str) -> bool:
        """Whether the value may have this JSON type."""
        return kind in self.kinds

    def below(self, key: str | None) -> "Shape":
        """The shape of the member `key`; None: of an array's items."""
        return self.members.get(key) or (self._source.below(self, key) if self._source else self)


ANYTHING = Shape(None, [()], ALL)


class _UsedUp(Exception):
    """There are no steps left."""


class _Source:
    """A schema, and what has been found in it. A choice is a tuple of nodes; () allows everything."""

    def __init__(self, root: dict):
        self._root, self._left = root, STEPS
        self._shapes: dict[tuple, Shape] = {}  # by the ids of the nodes in each choice
        self._choices: dict[int, list[tuple]] = {}  # by the id of a schema
        self._kinds: dict[int, frozenset[str]] = {}  # by the id of a node

    def _take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _UsedUp

    def shape(self, alternatives: Iterable[tuple]) -> Shape:
        """The shape of a value for which all schemas of one of these tuples hold."""
        try:
            choices = self._either(self._all(schemas) for schemas in alternatives)
            if () in choices:
                return ANYTHING
            key = tuple(tuple(map(id, choice)) for choice in choices)
            if key not in self._shapes:
                self._take(MADE + 2 * sum(map(len, key)))
                self._shapes[key] = Shape(self, choices, frozenset().union(*map(self._kinds_of, choices)))
            return self._shapes[key]
        except _UsedUp:
            return ANYTHING

    def below(self, shape: Shape, key: str | None) -> Shape:
        """The shape of a member, or of the items, of a value that has `shape`."""
        try:
            self._take(REMEMBERED + sum(map(len, shape.choices)))
            kind = "array" if key is None else "object"
            found = self.shape(_members(choice, key) for choice in shape.choices
                               if kind in self._kinds_of(choice))
            shape.members[key] = found
            return found
        except _UsedUp:
            return ANYTHING

    def _all(self, schemas: Iterable[object], depth: int = DEPTH) -> list[tuple]:
        """The choices of a value for which all these schemas hold."""
        found: list[tuple] = [()]
        for schema in schemas:
            found = self._both(found, self._choices_of(schema, depth))
        return found

    def _either(self, parts: Iterable[list[tuple]]) -> list[tuple]:
        """The choices of a value for which one of these lists of choices holds."""
        found, seen = {}, {}
        for choices in parts:
            if id(choices) in seen:
                continue
            self._take(REMEMBERED + len(choices))
            seen[id(choices)] = choices  # the list stays, so that its id stays its own
            found.update((tuple(map(id, choice)), choice) for choice in choices)
            if () in found or len(found) > CHOICES:
                return [()]
        return [*found.values()] or [()]

    def _both(self, some: list[tuple], others: list[tuple]) -> list[tuple]:
        """The choices of a value for which both hold; only the first if there were too many."""
        if others == [()] or len(some) * len(others) > CHOICES:
            return some
        if some == [()]:
            return others
        self._take(sum(8 + len(one) + len(other) for one in some for other in others))
        return [one + other for one in some for other in others]

    def _choices_of(self, schema: object, depth: int) -> list[tuple]:
        """The choices of a value for which one schema holds: the same list for the same schema."""
        self._take(1)
        if not isinstance(schema, dict) or not depth:
            return [()]
        if id(schema) not in self._choices:
            self._take(REMEMBERED)
            self._choices[id(schema)] = [()]  # as which it counts within itself
            found = [()] if schema.keys().isdisjoint(WORDS) else [(schema,)]
            if "$ref" in schema:
                found = self._both(found, self._choices_of(self._pointed_at(schema["$ref"]), depth - 1))
            found = self._both(found, self._all(_list(schema, "allOf"), depth - 1))
            for word in ("anyOf", "oneOf"):
                found = self._both(found, self._either(
                    self._choices_of(each, depth - 1) for each in _list(schema, word)))
            self._choices[id(schema)] = found
        return self._choices[id(schema)]

    def _pointed_at(self, ref: object) -> object:
        """What a local reference ("#/$defs/x") points at, or None."""
        if not isinstance(ref, str) or not ref.startswith("#"):
            return None
        self._take(1 + len(ref) // 8)
        found = self._root
        for name in ref[1:].split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _kinds_of(self, choice: tuple) -> frozenset[str]:
        """The JSON types that all nodes of a choice allow."""
        self._take(1 + len(choice))
        for node in choice:
            if id(node) not in self._kinds:
                self._take(REMEMBERED + len(_list(node, "enum")))
                self._kinds[id(node)] = _kinds(node)
        return ALL.intersection(*(self._kinds[id(node)] for node in choice))


def kind_of(value: object) -> str:
    """The JSON type of a value from json.loads."""
    return {bool: "boolean", int: "integer", float: "number", str: "string", list: "array",
            dict: "object"}.get(type(value), "null")


def _members(choice: tuple, key: str | None) -> tuple:
    """The schemas that the nodes of a choice have for the member `key`, or for items."""
    return tuple(found for node in choice if isinstance(found := _member(node, key), dict))


def _member(node: dict, key: str | None) -> object:
    if key is None:
        return None if "prefixItems" in node else node.get("items")
    properties = _dict(node, "properties")
    if key in properties or "patternProperties" in node:
        return properties.get(key)
    return node.get("additionalProperties")


def _kinds(node: dict) -> frozenset[str]:
    """The JSON types that a node allows by its own words, without references and unions."""
    kinds = node.get("type")
    if kinds is None:
        values = _list(node, "enum") or ([node["const"]] if "const" in node else [])
        kinds = [kind_of(value) for value in values]
    if isinstance(kinds, str):
        kinds = [kinds]
    if not kinds or not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        return ALL
    return ALL.intersection([*kinds, *["null"] * (node.get("nullable") is True),
                             *["integer"] * ("number" in kinds)])


def _dict(node: dict, word: str) -> dict:
    return found if isinstance(found := node.get(word), dict) else {}


def _list(node: dict, word: str) -> list:
    return found if isinstance(found := node.get(word), list) else []
