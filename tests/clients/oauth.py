"""psycopg with a token of its own: libpq 18 asks a hook for it, which is set here past psycopg (PQsetAuthDataHook).

A program, run by its test: prints as JSON what the hook was asked, and what came of it. The hook is the process's, so
it is no thing to have in the tests' own.
https://www.postgresql.org/docs/18/libpq-oauth.html
"""

import ctypes
import json
import os
import sys
from pathlib import Path

import psycopg
import psycopg_binary

OAUTH_BEARER_TOKEN = 1
"""PGauthData's PQAUTHDATA_OAUTH_BEARER_TOKEN."""


class Request(ctypes.Structure):
    """PGoauthBearerRequest."""

    _fields_ = (
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("asynchronous", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    )


Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))


def main() -> None:
    """Connect with the connection string that is the one argument, with $TOKEN as the token."""
    token = os.environ["TOKEN"].encode()
    asked: list[dict[str, str | None]] = []

    def answer(kind: int, _: object, request: "ctypes._Pointer[Request]") -> int:
        if kind != OAUTH_BEARER_TOKEN:
            return 0
        wanted = request.contents
        found = {"openid_configuration": wanted.openid_configuration, "scope": wanted.scope}
        asked.append({name: value.decode() if value is not None else None for name, value in found.items()})
        wanted.token = token
        return 1

    hook = Hook(answer)
    folder = Path(psycopg_binary.__file__).parents[1] / "psycopg_binary.libs"
    libpq = ctypes.CDLL(str(next(folder.glob("libpq-*"))))
    libpq.PQsetAuthDataHook(hook)
    said = error = None
    try:
        with psycopg.connect(sys.argv[1]) as connection:
            said = connection.execute("SELECT current_user").fetchone()
    except psycopg.OperationalError as failure:
        error = str(failure)
    json.dump({"asked": asked, "said": said, "error": error}, sys.stdout)


if __name__ == "__main__":
    main()
