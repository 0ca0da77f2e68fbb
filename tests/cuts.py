"""Every way to cut a text or bytes, and events made comparable whatever the cuts were."""

from cursor2api.events import Reasoning, Text, ToolCall, Waiting


def cuts(whole):
    """The pieces of every cut: whole, one by one, and each split in two."""
    yield [whole]
    yield [whole[at:at + 1] for at in range(len(whole))]
    for at in range(1, len(whole)):
        yield [whole[:at], whole[at:]]


def joined(events):
    """The events with neighbouring pieces of one kind as one, and without Waiting."""
    out = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Waiting):
            continue
        if type(event) is type(last) and isinstance(event, (Text, Reasoning)):
            out[-1] = type(event)(last.text + event.text)
        elif isinstance(event, ToolCall) and isinstance(last, ToolCall) and event.id is None:
            out[-1] = ToolCall(last.index, last.id, last.name, last.arguments + event.arguments)
        else:
            out.append(event)
    return out


def spread(pieces):
    """Text events of the pieces, with Waiting strewn in."""
    for piece in pieces:
        yield Text(piece)
        yield Waiting()
