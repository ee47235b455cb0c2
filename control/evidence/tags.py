"""The command tag of a parsed statement, as PostgreSQL itself names it ("SELECT", "CREATE TABLE", "DROP VIEW").

Tables, after CreateCommandTag in PostgreSQL's src/backend/tcop/utility.c. Pure: it reads libpg_query's tree and nothing
else, and is imported by the worker alone (`control.evidence.parsing`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from postgast import pg_query_pb2 as pg

_Tree = Any
"""A message of libpg_query's tree. Its generated classes have no types that say what follows here."""

FIXED: Final[Mapping[str, str]] = {
    "AlterCollationStmt": "ALTER COLLATION",
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
    "AlterDatabaseSetStmt": "ALTER DATABASE",
    "AlterDatabaseStmt": "ALTER DATABASE",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES",
    "AlterDomainStmt": "ALTER DOMAIN",
    "AlterEnumStmt": "ALTER TYPE",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "AlterExtensionContentsStmt": "ALTER EXTENSION",
    "AlterExtensionStmt": "ALTER EXTENSION",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER",
    "AlterForeignServerStmt": "ALTER SERVER",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY",
    "AlterOperatorStmt": "ALTER OPERATOR",
    "AlterPolicyStmt": "ALTER POLICY",
    "AlterPublicationStmt": "ALTER PUBLICATION",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterRoleStmt": "ALTER ROLE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "AlterStatsStmt": "ALTER STATISTICS",
    "AlterSubscriptionStmt": "ALTER SUBSCRIPTION",
    "AlterSystemStmt": "ALTER SYSTEM",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE",
    "AlterTypeStmt": "ALTER TYPE",
    "AlterUserMappingStmt": "ALTER USER MAPPING",
    "CallStmt": "CALL",
    "CheckPointStmt": "CHECKPOINT",
    "ClusterStmt": "CLUSTER",
    "CommentStmt": "COMMENT",
    "CompositeTypeStmt": "CREATE TYPE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CopyStmt": "COPY",
    "CreateAmStmt": "CREATE ACCESS METHOD",
    "CreateCastStmt": "CREATE CAST",
    "CreateConversionStmt": "CREATE CONVERSION",
    "CreateDomainStmt": "CREATE DOMAIN",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "CreateExtensionStmt": "CREATE EXTENSION",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreateForeignServerStmt": "CREATE SERVER",
    "CreateForeignTableStmt": "CREATE FOREIGN TABLE",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreatePolicyStmt": "CREATE POLICY",
    "CreatePublicationStmt": "CREATE PUBLICATION",
    "CreateRangeStmt": "CREATE TYPE",
    "CreateRoleStmt": "CREATE ROLE",
    "CreateSchemaStmt": "CREATE SCHEMA",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "CreateStatsStmt": "CREATE STATISTICS",
    "CreateStmt": "CREATE TABLE",
    "CreateSubscriptionStmt": "CREATE SUBSCRIPTION",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreateTransformStmt": "CREATE TRANSFORM",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateUserMappingStmt": "CREATE USER MAPPING",
    "CreatedbStmt": "CREATE DATABASE",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "DeleteStmt": "DELETE",
    "DoStmt": "DO",
    "DropOwnedStmt": "DROP OWNED",
    "DropRoleStmt": "DROP ROLE",
    "DropSubscriptionStmt": "DROP SUBSCRIPTION",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "DropUserMappingStmt": "DROP USER MAPPING",
    "DropdbStmt": "DROP DATABASE",
    "ExecuteStmt": "EXECUTE",
    "ExplainStmt": "EXPLAIN",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA",
    "IndexStmt": "CREATE INDEX",
    "InsertStmt": "INSERT",
    "ListenStmt": "LISTEN",
    "LoadStmt": "LOAD",
    "LockStmt": "LOCK TABLE",
    "MergeStmt": "MERGE",
    "NotifyStmt": "NOTIFY",
    "PrepareStmt": "PREPARE",
    "ReassignOwnedStmt": "REASSIGN OWNED",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "ReindexStmt": "REINDEX",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
    "TruncateStmt": "TRUNCATE TABLE",
    "UnlistenStmt": "UNLISTEN",
    "UpdateStmt": "UPDATE",
    "VariableShowStmt": "SHOW",
    "ViewStmt": "CREATE VIEW",
}
"""Of the nodes that are one command only, whatever is in them."""

_OBJECTS: Final[Mapping[str, str]] = {
    "COLUMN": "TABLE",
    "DOMCONSTRAINT": "DOMAIN",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "LARGEOBJECT": "LARGE OBJECT",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "TABLE",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "ATTRIBUTE": "TYPE",
}
"""ObjectType's names where they are not PostgreSQL's words (with `_` for a blank)."""

_TRANSACTIONS: Final[Mapping[int, str]] = {
    pg.TRANS_STMT_BEGIN: "BEGIN",
    pg.TRANS_STMT_START: "START TRANSACTION",
    pg.TRANS_STMT_COMMIT: "COMMIT",
    pg.TRANS_STMT_ROLLBACK: "ROLLBACK",
    pg.TRANS_STMT_ROLLBACK_TO: "ROLLBACK",
    pg.TRANS_STMT_SAVEPOINT: "SAVEPOINT",
    pg.TRANS_STMT_RELEASE: "RELEASE",
    pg.TRANS_STMT_PREPARE: "PREPARE TRANSACTION",
    pg.TRANS_STMT_COMMIT_PREPARED: "COMMIT PREPARED",
    pg.TRANS_STMT_ROLLBACK_PREPARED: "ROLLBACK PREPARED",
}


def object_words(kind: int) -> str:
    """An ObjectType in PostgreSQL's words: "TABLE", "MATERIALIZED VIEW"."""
    name = pg.ObjectType.Name(kind).removeprefix("OBJECT_")
    return _OBJECTS.get(name, name.replace("_", " "))


def _create_table_as(node: _Tree) -> str:
    if node.objtype == pg.OBJECT_MATVIEW:
        return "CREATE MATERIALIZED VIEW"
    return "SELECT INTO" if node.is_select_into else "CREATE TABLE AS"


def _renamed(node: _Tree) -> str:
    kind = node.relation_type if node.rename_type in (pg.OBJECT_COLUMN, pg.OBJECT_ATTRIBUTE) else node.rename_type
    return f"ALTER {object_words(kind)}"


def _set(node: _Tree) -> str:
    return "RESET" if node.kind in (pg.VAR_RESET, pg.VAR_RESET_ALL) else "SET"


BY_CONTENT: Final[Mapping[str, Callable[[_Tree], str]]] = {
    "AlterFunctionStmt": lambda node: f"ALTER {object_words(node.objtype)}",
    "AlterObjectDependsStmt": lambda node: f"ALTER {object_words(node.object_type)}",
    "AlterObjectSchemaStmt": lambda node: f"ALTER {object_words(node.object_type)}",
    "AlterOwnerStmt": lambda node: f"ALTER {object_words(node.object_type)}",
    "AlterTableMoveAllStmt": lambda node: f"ALTER {object_words(node.objtype)}",
    "AlterTableStmt": lambda node: f"ALTER {object_words(node.objtype)}",
    "ClosePortalStmt": lambda node: "CLOSE CURSOR" if node.portalname else "CLOSE CURSOR ALL",
    "CreateFunctionStmt": lambda node: "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION",
    "CreateTableAsStmt": _create_table_as,
    "DeallocateStmt": lambda node: "DEALLOCATE ALL" if node.isall else "DEALLOCATE",
    "DefineStmt": lambda node: f"CREATE {object_words(node.kind)}",
    "DiscardStmt": lambda node: pg.DiscardMode.Name(node.target).replace("_", " "),
    "DropStmt": lambda node: f"DROP {object_words(node.remove_type)}",
    "FetchStmt": lambda node: "MOVE" if node.ismove else "FETCH",
    "GrantRoleStmt": lambda node: "GRANT ROLE" if node.is_grant else "REVOKE ROLE",
    "GrantStmt": lambda node: "GRANT" if node.is_grant else "REVOKE",
    "RenameStmt": _renamed,
    "SelectStmt": lambda node: "SELECT INTO" if node.HasField("into_clause") else "SELECT",
    "TransactionStmt": lambda node: _TRANSACTIONS.get(node.kind, "BEGIN"),
    "VacuumStmt": lambda node: "VACUUM" if node.is_vacuumcmd else "ANALYZE",
    "VariableSetStmt": _set,
}
"""Of the nodes that are several commands, by what is in them."""


def tag(node: _Tree) -> str | None:
    """The command tag of a statement's node; None for one that is no statement (or not known here)."""
    name = node.DESCRIPTOR.name
    if (fixed := FIXED.get(name)) is not None:
        return fixed
    rule = BY_CONTENT.get(name)
    return None if rule is None else rule(node)
