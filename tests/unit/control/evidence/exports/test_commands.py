"""Which command a statement was."""

import pytest

from control.evidence.exports.commands import commands


@pytest.mark.parametrize(
    ("tags", "sql", "named"),
    [
        (["SELECT 3"], "WITH x AS () TABLE y", ["SELECT"]),
        (["INSERT 0 5"], "insert", ["INSERT"]),
        (["CREATE TABLE", "DELETE 2"], "", ["CREATE TABLE", "DELETE"]),
        (["REFRESH MATERIALIZED VIEW"], "", ["REFRESH MATERIALIZED VIEW"]),
        (["7", ""], "SELECT 1", []),
        ([], "/* UPDATE */ delete from t", ["DELETE"]),
        ([], "DROP TABLE t -- it failed", ["DROP"]),
        ([], "hunter2", []),
        (None, "", []),
    ],
)
def test_the_tag_says_it_and_the_first_word_only_where_none_came(
    tags: list[str] | None, sql: str, named: list[str]
) -> None:
    """Counts are no part of it, and no word of anybody's data is ever it."""
    assert commands({"tags": tags, "sql": sql}) == named
