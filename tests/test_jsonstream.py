"""The JSON that a Reader makes of what models write, at every cut."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cursor2api.effects.jsonstream import DEPTH, TOKEN, Reader

END = "</call_x>"


def read(pieces, schema=None, force=False, end=""):
    """(joined output, what the reader says at the end); each output must be completable."""
    reader, out = Reader(schema, end), ""
    for piece in pieces:
        out += reader.feed(piece)
    out += reader.close(force)
    return out, reader.done, reader.bad, reader.rest, reader.repaired, reader.ended


def read_at_every_cut(text, *args):
    expected = read([text], *args)
    assert read(list(text), *args) == expected
    for at in range(len(text) + 1):
        assert read([text[:at], text[at:]], *args) == expected, (text[:at], text[at:])
    return expected


def completed(prefix):
    """The value of some valid JSON text that begins so; ValueError if none was found."""
    closers, at, inside = [], 0, False
    while at < len(prefix):
        ch = prefix[at]
        if inside:
            at += ch == "\\"
            inside = ch != '"'
        elif ch == '"':
            inside = True
        elif ch in "{[":
            closers.append("}" if ch == "{" else "]")
        elif ch in "}]":
            assert closers.pop() == ch
        at += 1
    begun = prefix + ('"' if inside else "")
    for tail in ("", "0", ":0", '"k":0'):
        try:
            return json.loads(begun + tail + "".join(reversed(closers)))
        except ValueError:
            pass
    raise ValueError(prefix)


# (name, text, normalised)
GOOD = [
    ("plain", '{"a": [1, -2.50, 1e3, true, false, null, "x", {}, []]}',
     '{"a":[1,-2.50,1e3,true,false,null,"x",{},[]]}'),
    ("raw control characters", '{"a": "x\n\t\r\x00\x1fy"}', r'{"a":"x\n\t\r\u0000\u001fy"}'),
    ("trailing commas", '{"a": [1, 2 ,], "b": {"c": "d",},}', '{"a":[1,2],"b":{"c":"d"}}'),
    ("single quotes", """{'a': 'it\\'s "b"', 'c': 'don't'}""",
     r'''{"a":"it's \"b\"","c":"don't"}'''),
    ("smart quotes", '{“a”: “b "c"”, ‘d’: ‘e’}', r'{"a":"b \"c\"","d":"e"}'),
    ("Python's literals", "[True, False, None]", "[true,false,null]"),
    ("quote marks at line starts", '{\n> "a":\n > > 1,\n> "b": "x\n> y"\n>}',
     r'{"a":1,"b":"x\n> y"}'),
    ("valid escapes stay", r'["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"]',
     r'["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"]'),
    ("bad escapes are backslashes", r'["\d \u12 \x41 \u00zz \é"]',
     r'["\\d \\u12 \\x41 \\u00zz \\é"]'),
    ("lone surrogate escapes", r'["\ud83d", "\ud83dx", "\ude00", "\ud83d\n", "\ud83d\ud83d\ude00"]',
     r'["\ufffd","\ufffdx","\ufffd","\ufffd\n","\ufffd\ud83d\ude00"]'),
    ("a character beyond the plane", '["😀"]', '["😀"]'),
    ("text that looks like an end mark", '{"a": "</call_x>"}', '{"a":"</call_x>"}'),
    ("inner quotes", '{"a": "say "hi" and "no", "yes" ok", "b": ["an "x" y"]}',
     r'{"a":"say \"hi\" and \"no\", \"yes\" ok","b":["an \"x\" y"]}'),
    ("inner quotes before a far key", '{"a": "x" ' + 50 * " " + ', y", "b": 1}',
     r'{"a":"x\" ' + 50 * " " + ', y","b":1}'),
    ("a long space behind a string", '{"a": "x"' + 300 * " " + '}', '{"a":"x"}'),
    ("a long key behind a string", '{"a": "x", "' + 300 * "k" + '": 1}',
     '{"a":"x","' + 300 * "k" + '":1}'),
    ("a key with quotes", r'{"a\"b": 1, "c": "d", "e\"f": 2}', r'{"a\"b":1,"c":"d","e\"f":2}'),
    ("an empty key", '{"": "", "a": ""}', '{"":"","a":""}'),
    ("a top string", '"a\tb"', r'"a\tb"'),
    ("a top number at the text's end", "-12.5", "-12.5"),
]

# (name, text, part of the reason)
BAD = [
    ("NaN", '{"a": NaN}', "NaN"), ("Infinity", "[-Infinity]", "-Infinity"),
    ("a leading zero", "[01]", "01"), ("a bare word", '{"a": yes}', "yes"),
    ("a bare key", '{a: 1}', "key"), ("two commas", "[1,,2]", "','"),
    ("another bracket", '{"a": [1}', "'}'"), ("no value", '{"a": }', "'}'"),
    ("no comma", "[1 2]", "'2'"), ("the same key twice", '{"a": 1, "\\u0061": 2}', "duplicate"),
    ("a repair that makes a second key", '{"c": "x", "p": "y" z", "p": "r"}', "duplicate"),
    ("too deep", "[" * (DEPTH + 1), "deeper"), ("a huge number", "[" + "1" * (TOKEN + 1), "more"),
    ("foreign digits", "[١]", "١"), ("nothing like JSON", "hello", "hello"),
]

# (name, schema, text, normalised)
ANY_OF = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
TREE = {"$defs": {"node": {"type": "object", "properties": {
    "n": {"type": "number"}, "below": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}},
    "$ref": "#/$defs/node"}
COERCED = [
    ("text to integer", {"type": "integer"}, '"12"', "12"),
    ("text to integer keeps what is not one", {"type": "integer"}, '"12 "', '"12 "'),
    ("text that is no JSON number", {"type": "integer"}, '"012"', '"012"'),
    ("text to number keeps its digits", {"type": "number"}, '"1.50"', "1.50"),
    ("text to boolean", {"type": "boolean"}, '"true"', "true"),
    ("Python's spelling stays text", {"type": "boolean"}, '"True"', '"True"'),
    ("NaN stays text", {"type": "number"}, '"NaN"', '"NaN"'),
    ("text to null", ANY_OF, '"null"', "null"), ("text in a union", ANY_OF, '"5"', "5"),
    ("text where text may be", {"type": ["string", "integer"]}, '"5"', '"5"'),
    ("text to object, and within it", TREE, r'"{\"n\": \"1\", \"below\": [{\"n\":\"2\"}]}"',
     '{"n":1,"below":[{"n":2}]}'),
    ("below a reference", TREE, '{"below": [{"below": [{"n": "3"}]}]}',
     '{"below":[{"below":[{"n":3}]}]}'),
    ("number to text", {"type": "string"}, "1.50", '"1.50"'),
    ("boolean to text", {"type": "string"}, "True", '"true"'),
    ("null stays", {"type": "string"}, "null", "null"),
    ("an integral number", {"type": "integer"}, "-3.00", "-3"),
    ("a number that is not integral", {"type": "integer"}, "3.5", "3.5"),
    ("integer where a number may be", {"type": "number"}, "3", "3"),
    ("values of an enum", {"enum": [1, 2]}, '"2"', "2"),
    ("additional properties", {"additionalProperties": {"type": "integer"}}, '{"x":"1"}',
     '{"x":1}'),
    ("a property beside a union", {"properties": {"x": {"type": "integer"}},
                                   "anyOf": [{"required": ["x"]}, {"required": ["y"]}]},
     '{"x":"1"}', '{"x":1}'),
    ("allOf", {"allOf": [{"properties": {"x": {"type": "integer"}}}]}, '{"x":"1"}', '{"x":1}'),
    ("a union in which one says nothing", {"anyOf": [{"properties": {"x": {"type": "integer"}}},
                                                     {"type": "object"}]}, '{"x":"1"}',
     '{"x":"1"}'),
    ("nullable", {"type": "integer", "nullable": True}, '"null"', "null"),
    ("no schema that can be read", {"$ref": "http://example.invalid/"}, '"1"', '"1"'),
    ("a schema of itself", {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, '["1"]', '["1"]'),
    ("true", True, '["1"]', '["1"]'),
]

# (name, text, output when forced or None)
ENDS = [
    ("behind a string", '{"a": {"b": "c"', '{"a":{"b":"c"}}'),
    ("behind a comma", '{"a": [1,', '{"a":[1]}'), ("behind a number", '{"a": [1', '{"a":[1]}'),
    ("behind an opener", '{"a": [', '{"a":[]}'), ("in a string", '{"a": "b', None),
    ("in an escape", '{"a": "b\\', None), ("behind a key", '{"a": 1, "b"', None),
    ("behind a colon", '{"a":', None), ("in a key", '{"a": "x", "b', None), ("nowhere", " ", None),
]


@pytest.mark.parametrize("name, text, normal", GOOD, ids=[row[0] for row in GOOD])
def test_what_can_be_mended_is_the_same_json_at_every_cut(name, text, normal):
    rest = "" if name.endswith("end") else " x"
    found = read_at_every_cut(text + rest)
    assert found == (normal, True, None, rest, "inner" in name or "single" in name, False)
    json.loads(normal)


@pytest.mark.parametrize("name, text, reason", BAD, ids=[row[0] for row in BAD])
def test_what_cannot_be_json_stops_the_reader_and_says_why(name, text, reason):
    out, done, bad, rest, _, _ = read_at_every_cut(text + " tail")
    assert not done and reason in bad and rest.endswith(" tail")
    if out:
        completed(out)


@pytest.mark.parametrize("name, schema, text, normal", COERCED, ids=[row[0] for row in COERCED])
def test_a_schema_coerces_only_what_loses_nothing(name, schema, text, normal):
    assert read_at_every_cut(text, schema)[:3] == (normal, True, None)


@pytest.mark.parametrize("name, text, forced", ENDS, ids=[row[0] for row in ENDS])
@pytest.mark.parametrize("tail", ["", END])
def test_missing_closers_are_added_only_behind_whole_values(name, text, forced, tail):
    if tail and "in " in name:
        assert not read_at_every_cut(text + tail, None, True, END)[5], "a mark in a string is text"
        return
    out, done, bad, rest, _, ended = read_at_every_cut(text + tail, None, True, END)
    assert (done, bad, rest, ended) == (forced is not None, None, tail, bool(tail))
    if forced:
        assert out == forced


def test_without_force_nothing_is_added():
    assert read_at_every_cut('{"a": {"b": "c"', None, False)[:2] == ('{"a":{"b":"c', False)


def test_text_streams_out_as_it_comes():
    reader = Reader({"properties": {"a": {"type": "string"}}})
    reader.feed('{"a": "')
    assert [reader.feed(ch) for ch in "xyz"] == ["x", "y", "z"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), below, max_size=4), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_valid_json_keeps_its_value(value, ascii_only, indent, step):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    out, done, bad, rest, repaired, _ = read([text[at:at + step]
                                              for at in range(0, len(text), step)])
    assert json.loads(out) == value
    assert (done, bad, rest, repaired) == (True, None, "", False)


NOISE = st.lists(st.sampled_from(
    ['"', "'", "“", "”", "\\", "{", "}", "[", "]", ",", ":", "a", "b", " ", "\n", ">", "1", "-",
     ".", "true", "None", "u12", "\\ud83d", "\\ude00", "é", "😀", '"a":', '"b":', '{"a":"', '",',
     '"}', "<", END, END[:4], "\x00", "0"]), max_size=30).map("".join)


@settings(max_examples=1500, deadline=None)
@given(NOISE, st.sampled_from([None, True, {"additionalProperties": {"type": "integer"}}, TREE]),
       st.booleans(), st.sampled_from(["", END]), st.integers(0, 60))
def test_noise_gives_the_same_prefix_of_json_at_every_cut(noise, schema, force, end, cut):
    text = '{"a":' + noise
    expected = read([text], schema, force, end)
    assert read(list(text), schema, force, end) == expected
    assert read([text[:cut], text[cut:]], schema, force, end) == expected
    completed(expected[0])
    if expected[1]:
        json.loads(expected[0])


@pytest.mark.parametrize("text", [
    '{"a": "' + 200_000 * "x", '{"a": "' + 50_000 * '", "', '{"a": "' + 100_000 * '" ',
    '{"a": "' + 200_000 * '"', '{"a":' + 200_000 * " ", '{"a": "x"' + 200_000 * "\n",
    '{"a": ' + 100_000 * "1 ", "[" + 100_000 * "1,", '["' + 60_000 * '\\u1', '["' + 50_000 * "</ca",
], ids=lambda text: text[5:14])
def test_time_per_character_does_not_grow(text):
    def seconds(part):
        reader, begun = Reader(end=END), time.process_time()
        for ch in part:
            reader.feed(ch)
            if reader.over:
                break
        return time.process_time() - begun

    short = min(seconds(text[:len(text) // 10]) for _ in range(3))
    assert seconds(text) < 40 * short + 0.2
