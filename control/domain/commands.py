"""Which command a statement is, for whoever may know that something runs and not what it says. Pure.

The word is one of PostgreSQL's own commands or nothing at all, so that no part of anybody's data is ever it.
"""

import re

_NAMES = """
ABORT ALTER ANALYZE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE DEALLOCATE DECLARE DELETE DISCARD DO
DROP END EXECUTE EXPLAIN FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE MOVE NOTIFY PREPARE REASSIGN REFRESH REINDEX
RELEASE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SELECT SET SHOW START TABLE TRUNCATE UNLISTEN UPDATE VACUUM VALUES WITH
"""
COMMANDS = frozenset(_NAMES.split())
"""PostgreSQL 18, "SQL Commands"."""
_LOOKED_AT = 4_096
_FIRST_WORD = re.compile(r"(?:[\s(]+|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*+([A-Za-z]+)\b")


def command(sql: str) -> str | None:
    """The first word behind blanks and comments, where it is a command's."""
    found = _FIRST_WORD.match(sql[:_LOOKED_AT])
    word = "" if found is None else found[1].upper()
    return word if word in COMMANDS else None
