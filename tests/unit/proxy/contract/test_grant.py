"""What a grant covers: person, target, database, address, certificate."""

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.contract.grant import NAME_BYTES, Grant, Refusal, parse_address, parse_network
from tests.harness.tokens import grant

FACTS: Mapping[str, Any] = {
    "user": "dba1",
    "target": "orders",
    "database": "orders",
    "address": parse_address("10.1.2.3"),
    "certificate": None,
}


def refusal(granted: Grant, **changed: object) -> Refusal | None:
    """What the grant says to a connection with FACTS, but for what is `changed`."""
    return granted.refuses(**{**FACTS, **changed})


def test_the_granted_connection_is_covered() -> None:
    """All facts as granted."""
    assert refusal(grant()) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"user": "dba2"}, Refusal.WRONG_SUBJECT),
        ({"user": "DBA1"}, Refusal.WRONG_SUBJECT),
        ({"user": ""}, Refusal.WRONG_SUBJECT),
        ({"target": "stock"}, Refusal.WRONG_TARGET),
        ({"target": ""}, Refusal.WRONG_TARGET),
    ],
    ids=repr,
)
def test_another_person_or_target_is_refused(changed: Mapping[str, Any], why: Refusal) -> None:
    """Both names are compared as they are."""
    assert refusal(grant(), **changed) is why


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        (("*",), "anything", True),
        (("orders",), "orders", True),
        (("orders", "stock"), "stock", True),
        (("orders",), "Orders", False),
        (("orders",), "orders ", False),
        (("orders", "*"), "stock", False),
        (("*",), "x" * NAME_BYTES, True),
        (("*",), "x" * (NAME_BYTES + 1), False),
        (("*",), "ä" * 31, True),
        (("*",), "ä" * 32, False),
    ],
)
def test_databases(granted: tuple[str, ...], asked: str, covered: bool) -> None:  # noqa: FBT001 the test's own table
    """Only `["*"]` alone means all, and a name that PostgreSQL would cut is not the name that it seems."""
    assert refusal(grant(databases=granted), database=asked) is (None if covered else Refusal.WRONG_DATABASE)


def test_a_name_cut_by_postgresql_reaches_no_other_database() -> None:
    """`dbname` of 64 bytes whose first 63 are a granted name: PostgreSQL would open that one, unasked."""
    granted = "o" * NAME_BYTES
    assert refusal(grant(databases=(granted,)), database=granted + "x") is Refusal.WRONG_DATABASE


@pytest.mark.parametrize(
    ("networks", "address", "covered"),
    [
        (("10.0.0.0/8",), "10.255.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.1.2.3/32",), "10.1.2.3", True),
        (("10.0.0.0/8", "2001:db8::/32"), "2001:db8::5", True),
        (("2001:db8::/32",), "10.1.2.3", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), "::a01:203", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("0.0.0.0/0",), "::1", False),
    ],
)
def test_addresses(networks: tuple[str, ...], address: str, covered: bool) -> None:  # noqa: FBT001 the test's own table
    """An IPv4 client on a dual-stack socket counts as IPv4; a zone changes nothing; the families never mix."""
    got = refusal(grant(addresses=networks), address=parse_address(address))
    assert got is (None if covered else Refusal.WRONG_ADDRESS)


def test_a_unix_socket_has_no_address() -> None:
    """A grant with addresses never covers it, one without does."""
    assert refusal(grant(), address=None) is None
    assert refusal(grant(addresses=("0.0.0.0/0",)), address=None) is Refusal.WRONG_ADDRESS


@pytest.mark.parametrize("shown", [None, "", "other"])
def test_a_bound_certificate_must_be_shown(shown: str | None) -> None:
    """A stolen token without its certificate opens nothing (RFC 8705)."""
    bound = grant(certificate="thumbprint")
    assert refusal(bound, certificate=shown) is Refusal.WRONG_CERTIFICATE
    assert refusal(bound, certificate="thumbprint") is None


@pytest.mark.parametrize("text", ["", "localhost", "10.1", "10.0.0.1/8", "::g", "%eth0"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    """Neither names nor abbreviations nor networks."""
    with pytest.raises(ValueError, match=r".*"):
        parse_address(text)


def test_a_network_with_host_bits_is_an_error() -> None:
    """`10.0.0.1/8` could mean two things."""
    with pytest.raises(ValueError, match="host bits"):
        parse_network("10.0.0.1/8")
