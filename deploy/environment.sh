# Makes the environment of a checkout, .venv, and puts it in front of PATH. For deploy/demo.sh and tests/run.sh, which
# source it from the checkout's top level; it prints nothing on stdout and changes nothing outside the checkout.
#
# $PYTHON names another interpreter (3.11 or newer).

say() { printf '%s\n' "$0: $*" >&2; }

# A Python of 3.11 or newer that can make environments.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python >= 3.11 with venv found; install it (Debian: apt-get install python3-venv), or name one in \$PYTHON"
    return 1
}

# What the environment was made from, the sources that are compiled included: it is renewed when any of this changes.
stamp() {
    { "$1" -VV; pwd; cat pyproject.toml proxy/*.py proxy/*/*.py proxy/*.p[yx][dix] proxy/*/*.p[yx][dix]; } | cksum
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
    # pip passes on what the build tools have to say to each other.
    PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --editable . --group test --group lint
    if ! .venv/bin/python -m pip install --quiet --only-binary=:all: --group fuzz; then
        say "no wheel of atheris for this Python: tests/fuzz runs on plain mutation"
    fi
    printf '%s\n' "$wanted" >.venv/stamp
}

# One at a time: two that start at once would build into one folder. Without flock (util-linux) nobody waits.
mkdir -p .cache
(
    if command -v flock >/dev/null; then flock 9; fi
    make_environment 9>&-
) 9>.cache/environment.lock
export PATH="$PWD/.venv/bin:$PATH"
