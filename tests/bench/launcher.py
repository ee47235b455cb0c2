"""`curfew-proxy` under cProfile: the command that `python -m tests.bench --profile CASE` starts in its place.

Statistics go to the file named by $CURFEW_BENCH_PROFILE when the proxy ends. A profiled proxy is several times slower:
its figures show where time goes, never how much.
"""

import cProfile
import os
import sys

from proxy.cli import main


def launch() -> int:
    """Run the command to its end, then write the statistics."""
    profile = cProfile.Profile()
    try:
        return profile.runcall(main, sys.argv[1:])
    finally:
        profile.dump_stats(os.environ["CURFEW_BENCH_PROFILE"])


if __name__ == "__main__":
    sys.exit(launch())
