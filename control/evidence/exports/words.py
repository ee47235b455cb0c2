"""What is said of an item where people read it: the words of `curfew replay`, for documents. Pure.

Nothing here is escaped: each format makes it harmless in its own way.
"""

from control.durations import show_duration
from control.evidence.timeline import Item
from control.sizes import show_size
from proxy.contract.record import Parameter

MASKED = " (a secret in it is masked)"
SAID_BYTES = 1_000
"""Results of fewer bytes say nothing of their size."""


def result(item: Item) -> str:
    """A statement's result. That its work was kept, or an error's was not, goes unsaid."""
    outcome = item["outcome"]
    unsaid = "rolled back" if item["sqlstate"] else "committed"
    return _result(item) if outcome in (None, unsaid) else f"{_result(item)}, {outcome}"


def _result(item: Item) -> str:
    seconds = item["duration_s"]
    if item["sqlstate"]:
        took = "" if seconds is None else f" ({show_duration(seconds)})"
        return f"ERROR {item['sqlstate']} {item['message'] or ''}".rstrip() + took
    if item["skipped"]:
        return "SKIPPED (an earlier statement of the pipeline failed)"
    if seconds is None:
        return "NO RESULT (the session ended first)"
    rows = item["rows"] or 0
    if item["mode"] == "function":
        return f"SUCCESS ({given(item['result_bytes'])}, {show_duration(seconds)})"
    counted = f"{rows} row{'' if rows == 1 else 's'}{' so far' if item['suspended'] else ''}"
    size = f", {show_size(item['bytes_out'])}" if (item["bytes_out"] or 0) >= SAID_BYTES else ""
    return f"SUCCESS ({counted}{size}, {show_duration(seconds)})"


def given(size: int | None) -> str:
    """What a function call gave."""
    return "NULL" if size is None else f"a result of {show_size(size)}"


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
    return "'" + content.replace("'", "''") + "'" + (MASKED if value.masked else "")


def told(item: Item) -> str:
    """What is no statement, in one line."""
    if item["kind"] == "transaction" and item["outcome"]:
        return f"{item['outcome'].upper()} {item['text'].replace(' ' + item['outcome'], '', 1)}"
    if item["kind"] != "end":
        return f"{item['kind'].replace('_', ' ').upper()} {item['text'] or ''}".rstrip()
    because = f": '{item['why']}'" if item["why"] else ""
    parts = [f"END {item['reason']}" + (f" by {item['by']}" if item["by"] else "") + because]
    if item["running"] is not None:
        parts.append(f"#{item['running']} was running")
    parts.append(f"open work: {item['outcome']}")
    if item["stop_s"] is not None:
        parts.append(f"backend gone {show_duration(item['stop_s'])} after the decision")
    if item["slots"]:
        parts.append(f"replication slots left behind: {', '.join(item['slots'])}")
    return "; ".join(parts)
