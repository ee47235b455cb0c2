"""The options of accounts: what belongs together, and what a wrong combination is told."""

from typing import Any

import msgspec
import pytest

from proxy.contract.settings import AccessProfile

AUTHORITY = {"ca_certificate_file": "ca.pem", "ca_key_file": "ca.key"}


def profile(**options: Any) -> AccessProfile:  # noqa: ANN401 as a configuration has them
    """A profile as it is read."""
    return msgspec.convert(options, AccessProfile)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "`user` is missing"),
        ({"user": "u", "account": {"preset": "readonly"}}, "`account` is for `identity`"),
        ({"identity": "ephemeral", "account": {}}, "gives no rights"),
        ({"identity": "ephemeral", "user": "u", "account": {"preset": "ddl"}}, "are a stored login's"),
        ({"identity": "ephemeral", "replication": "all", "account": {"preset": "ddl"}}, "`replication` needs"),
        ({"identity": "ephemeral", "account": {"preset": "ddl", **AUTHORITY}}, "belong to `identity` 'elevated'"),
        ({"identity": "elevated", "account": {"preset": "ddl"}}, "belong to `identity` 'elevated'"),
        (
            {"identity": "elevated", "account": {"preset": "ddl", "elevate_by": "password", **AUTHORITY}},
            "set both there, and neither elsewhere",
        ),
        ({"identity": "ephemeral", "account": {"preset": "schema"}}, "needs `schemas` or `tables`"),
        ({"identity": "ephemeral", "account": {"preset": "readonly", "schemas": ["s"]}}, "`schemas` belongs to"),
        ({"identity": "ephemeral", "account": {"preset": "ddl", "tables": ["s.t"]}}, "`tables` and `privileges`"),
        ({"identity": "ephemeral", "account": {"preset": "schema", "tables": ["t"]}}, "'t' is not SCHEMA.TABLE"),
        ({"identity": "ephemeral", "account": {"preset": "superuser"}}, "Invalid enum value 'superuser'"),
        ({"identity": "ephemeral", "account": {"member_of": ["x" * 64]}}, "is no PostgreSQL name"),
        ({"identity": "ephemeral", "account": {"setup_sql": ["a\0b"]}}, "zero byte"),
        ({"identity": "ephemeral", "account": {"preset": "ddl", "linger_s": -1}}, ">= 0"),
    ],
)
def test_what_does_not_belong_together(options: dict[str, Any], fault: str) -> None:
    """Each is told what to do about it."""
    with pytest.raises(msgspec.ValidationError, match=fault.replace("(", r"\(")):
        profile(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"identity": "ephemeral", "account": {"preset": "readonly"}},
        {"identity": "ephemeral", "account": {"setup_file": "setup.sql", "linger_s": 0}},
        {"identity": "ephemeral", "account": {"preset": "schema", "tables": ["s.t"], "privileges": ["INSERT"]}},
        {"identity": "elevated", "account": {"preset": "ddl", "schemas": ["s"], **AUTHORITY}},
        {"identity": "elevated", "account": {"member_of": ["r"], "elevate_by": "password"}},
    ],
)
def test_what_does(options: dict[str, Any]) -> None:
    """Every kind has a shortest form."""
    assert profile(**options).user is None
