"""Masking among bound values: which go, what stays of them, and that it is said."""

import base64

import pytest

from proxy.contract.record import Parameter
from proxy.wire.secret_values import Bound, mask_values
from proxy.wire.secrets import mask
from proxy.wire.statements import read_text
from proxy.wire.values import BINARY, TEXT, decode

TYPE_TEXT, BYTEA = 25, 17


def encoded(raw: bytes) -> str:
    """As a record has bytes."""
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("select pgp_sym_encrypt($1, $2)", [Bound(2)]),
        ("select pgp_sym_decrypt($1::bytea, cast($12 as text), $3)", [Bound(12)]),
        ("select pgp_pub_decrypt($1, dearmor($2), $3)", [Bound(2), Bound(3)]),
        ("select crypt($2, pw), hmac(x, /* k */ ($1), 'md5')", [Bound(1), Bound(2)]),
        ("select set_config('app.secret', $1, $2)", [Bound(1)]),
        ("select set_config($2, $1, true)", [Bound(1, named_by=2)]),
        ("select dblink_connect($1)", [Bound(0)]),
        ("select pgp_sym_encrypt($1, 'k'), dblink($2, $3)", [Bound(0)]),
        ("select set_config('search_path', $1, true), encrypt_data($2)", []),
        ("select hmac($1, (select k from t where id = $2), 'md5')", []),
        ("do $$begin perform pgp_sym_encrypt($1, $2); end$$", []),
        ("select 'crypt(', $1, ')'", []),
        ("select '\\', crypt($1, x), \\' '", []),
        ("select $1 from password where secret = $2 and key = $3", []),
        ("select crypt($99999, x), crypt($0, x), crypt($123456789, x)", []),
    ],
)
def test_which_parameters_are_secrets(sql: str, bound: list[Bound]) -> None:
    """Those that the statement itself takes for keys, settings or connection strings."""
    assert list(mask(sql)[2]) == bound


@pytest.mark.parametrize(
    ("sql", "values", "masked"),
    [
        ("select crypt($1, $2)", ["hunter2", "$2a$06$x"], ["***", "$2a$06$x"]),
        ("select set_config($1, $2, true)", ["App.Secret", "x"], ["App.Secret", "***"]),
        ("select set_config($1, $2, true)", ["search_path", "x"], ["search_path", "x"]),
        ("select dblink($1, $2)", ["host=h password=x user=u", "select 'a=b'"], ["host=h password=*** user=u", None]),
        ("select dblink_connect('c', $1)", ["postgresql://u:pw@h/db"], ["postgresql://u:***@h/db"]),
        ("select crypt($1, $2)", ["drop table t", "x"], [None, None]),
        ("select crypt($1, $2)", ["drop/**/table/**/t"], [None]),
        ("select crypt($2, $3)", ["x"], [None]),
        ("select pgp_sym_encrypt('x', $1)", [""], [None]),
    ],
)
def test_values(sql: str, values: list[str], masked: list[str | None]) -> None:
    """The secret goes, and no more; None stands for a value that stays. What could be run stays."""
    came = [Parameter(TYPE_TEXT, value) for value in values]
    seen, secrets = mask_values(came, read_text(sql.encode()).bound)
    gone = [Parameter(TYPE_TEXT, new, masked=True) for new in masked]
    wanted = [old if new in (None, old.value) else one for old, new, one in zip(came, masked, gone, strict=True)]
    assert seen == wanted
    assert bool(secrets) == (seen != came)


@pytest.mark.parametrize(
    ("value", "goes"),
    [
        (decode(BYTEA, BINARY, b"\x00\xff (;)\x80"), True),
        (decode(BYTEA, BINARY, b"key"), True),
        (decode(BYTEA, BINARY, b"drop table t"), False),
        (decode(0, BINARY, b"key"), True),
        (decode(TYPE_TEXT, TEXT, b"cl\xe9"), True),
        (decode(TYPE_TEXT, TEXT, b"dr\xf6p table t"), False),
        (decode(TYPE_TEXT, TEXT, None), False),
        (decode(23, BINARY, b"\0\0\0\7"), True),
        (Parameter(TYPE_TEXT, withheld=True), False),
    ],
)
def test_a_key_in_any_form(value: Parameter, goes: bool) -> None:  # noqa: FBT001 a case's expectation
    """Bytes that are no text are nothing that could be run; NULL is no secret."""
    seen, _ = mask_values([value], [Bound(1)])
    assert seen == ([Parameter(value.type, "***", masked=True)] if goes else [value])


def test_a_connection_string_in_another_encoding() -> None:
    """It is text once it is masked: its exact bytes would have the secret."""
    came = Parameter(TYPE_TEXT, base64=encoded(b"host=h user=\xe9 password=secret"))
    seen, secrets = mask_values([came], [Bound(0)])
    assert seen == [Parameter(TYPE_TEXT, "host=h user=\\xe9 password=***", masked=True)]
    assert secrets == ("secret",)
