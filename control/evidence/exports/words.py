"""What is said of an item where people read it: the words of `curfew replay`, for documents. Pure.

Nothing here is escaped: each format makes it harmless in its own way.
"""

from collections.abc import Iterator

from control.durations import show_duration
from control.evidence.timeline import Item
from proxy.contract.record import Parameter

DATA = "copy_data"


def result(item: Item) -> str:
    """A statement's result."""
    seconds = item["duration_s"]
    if item["sqlstate"]:
        took = "" if seconds is None else f" ({show_duration(seconds)})"
        return f"ERROR {item['sqlstate']} {item['message'] or ''}".rstrip() + took
    if item["skipped"]:
        return "SKIPPED (an earlier statement of the pipeline failed)"
    if seconds is None:
        return "NO RESULT (the session ended first)"
    rows = item["rows"] or 0
    counted = f"{rows} row{'' if rows == 1 else 's'}{' so far' if item['suspended'] else ''}"
    return f"SUCCESS ({counted}, {show_duration(seconds)})"


def failed(item: Item) -> bool:
    """Whether a statement ended in an error."""
    return bool(item["sqlstate"])


def parameter(value: Parameter) -> str:
    """A bound value as SQL would write it; what is bare (NULL, withheld) is no text, so none can be taken for it."""
    if value.withheld:
        return f"withheld (type {value.type})"
    if value.base64 is not None:
        return f"base64 '{value.base64}' (type {value.type})"
    content = value.value
    if content is None:
        return "NULL"
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, int | float):
        return str(content)
    return "'" + content.replace("'", "''") + "'"


def told(item: Item) -> str:
    """What is no statement, in one line."""
    if item["kind"] != "end":
        return f"{item['kind'].replace('_', ' ').upper()} {item['text'] or ''}".rstrip()
    parts = [f"END {item['reason']}" + (f" by {item['by']}" if item["by"] else "")]
    if item["running"] is not None:
        parts.append(f"#{item['running']} was running")
    parts.append(f"open work: {item['outcome']}")
    if item["stop_s"] is not None:
        parts.append(f"backend gone {show_duration(item['stop_s'])} after the decision")
    if item["slots"]:
        parts.append(f"replication slots left behind: {', '.join(item['slots'])}")
    return "; ".join(parts)


class Data:
    """Puts the pieces of a COPY's data that follow each other into one item, which says how much there is of them.

    A document and an alert have no use for gigabytes of it; whoever wants the data takes JSON Lines or the records.
    """

    def __init__(self) -> None:
        self._run: Item | None = None

    def take(self, item: Item) -> Iterator[Item]:
        """The items to show now: `item` itself, and before it what it has ended."""
        run = self._run
        if item["kind"] == DATA:
            size = _decoded(item["base64"])
            if run is not None and (run["statement"], run["direction"]) == (item["statement"], item["direction"]):
                run["pieces"] += 1
                run["bytes"] += size
                return
            yield from self.finish()
            kept = {name: value for name, value in item.items() if name != "base64"}
            self._run = kept | {"pieces": 1, "bytes": size}
            return
        yield from self.finish()
        yield item

    def finish(self) -> Iterator[Item]:
        """What is left at the end."""
        run, self._run = self._run, None
        if run is not None:
            many = "a piece" if run["pieces"] == 1 else f"{run['pieces']} pieces"
            run["text"] = f"COPY {run['direction']}, {many} of its data on record ({run['bytes']} bytes)"
            yield run


def _decoded(base64: str) -> int:
    """How many bytes a base64 text stands for (RFC 4648)."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")
