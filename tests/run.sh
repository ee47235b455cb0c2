#!/bin/sh
# The whole test suite from a bare checkout: its own environment in .venv, the static checks, then pytest.
#
#     sh tests/run.sh [pytest arguments]
#
# $PYTHON names another interpreter (3.11 or newer), $PG_BIN another PostgreSQL (else the system's, else a wheel from
# PyPI), CURFEW_FRAMER=cython|python forces one framer. Nothing outside the checkout is changed.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "tests/run.sh: $*" >&2; }

# A Python of 3.11 or newer that can make environments.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python >= 3.11 with venv found; install python3-venv, or name one in \$PYTHON"
    return 1
}

# What the environment was made from: it is renewed when any of this changes.
stamp() {
    { "$1" -VV; pwd; cat pyproject.toml proxy/wire/*.py[xi]; } | cksum
}

make_environment() {
    python=$(find_python)
    wanted=$(stamp "$python")
    if [ -x .venv/bin/python ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    say "making .venv with $python"
    # Without --clear: an environment that somebody added to keeps its additions. Another version's does not fit.
    if ! [ -x .venv/bin/python ] || [ "$(.venv/bin/python -VV 2>/dev/null)" != "$("$python" -VV)" ]; then
        "$python" -m venv --clear .venv
    fi
    .venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'    # the first that knows --group
    .venv/bin/python -m pip install --quiet --editable . --group test --group lint
    printf '%s\n' "$wanted" >.venv/stamp
}

failed=''
check() {
    "$@" || failed="$failed '$(basename "$1")${2:+ $2}'"
}

make_environment
export PATH="$PWD/.venv/bin:$PATH"

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
