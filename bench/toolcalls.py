"""Prints what a tool call costs when its text comes in deltas of one character: processor time per
character and peak memory, at 1 KB, 100 KB and 1 MB. Neither may grow with the size."""

import json
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

from cursor2api.events import Finish, Text
from cursor2api.effects.toolcalls import split_calls
from cursor2api.effects.transforms import split_thinking

OPEN, CLOSE = "<call_k3f9x2>", "</call_k3f9x2>"
TEXT = "def f(x):\n    return {\"key\": x} < 1  # \u00e9\n"
SHAPES = {
    "streamed": '{{"name": "write", "arguments": {{"content": {0}}}}}',
    "held whole": '{{"arguments": {{"content": {0}}}, "name": "write"}}',
    "mended": '{{"name": "write", "arguments": {{"content": {0}}}}}',
    "blank first": '{{"name": "write", "arguments": {{"content": ""}}}}',
}


def reply(shape, size):
    content = (TEXT * (size // len(TEXT) + 1))[:size]
    literal = json.dumps(content, ensure_ascii=False)
    if shape == "mended":
        literal = '"' + literal[1:-1].replace('\\"', '"') + '"'
    call = SHAPES[shape].format(literal)
    return (size * "\n" if shape == "blank first" else "") + OPEN + call + CLOSE


def read(text):
    tools = [SimpleNamespace(name="write", kind="function", parameters={
        "type": "object", "properties": {"content": {"type": "string"}}})]
    finish = None
    for event in split_calls(split_thinking(deltas(text), OPEN), open_mark=OPEN, close_mark=CLOSE,
                             tools=tools, new_id=lambda: "call_1"):
        finish = event
    assert finish == Finish("tool_calls"), finish


def deltas(text):
    for ch in text:
        yield Text(ch)
    yield Finish("stop")


def main():
    read(reply("streamed", 100))
    print(f"{'call':12}{'size':>10}{'us/char':>10}{'peak/size':>11}")
    for shape in SHAPES:
        for size in (1_000, 100_000, 1_000_000):
            text = reply(shape, size)
            times = []
            for _ in range(max(2, 20_000 // size)):
                begun = time.process_time()
                read(text)
                times.append(time.process_time() - begun)
            tracemalloc.start()
            read(text)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(f"{shape:12}{size:>10}{min(times) / len(text) * 1e6:>10.2f}"
                  f"{peak / len(text):>11.1f}")


if __name__ == "__main__":
    main()
