"""`python -m deploy.demo [--once]`, which `sh deploy/demo.sh` runs in the checkout's environment."""

import argparse
import os
import signal
import sys
import time

from deploy.demo import lines, story, work
from deploy.demo.play import Play, StepFailedError
from deploy.demo.stage import Stage, standing

KEPT = ("PG_BIN", "CURFEW_DEBUG", "CURFEW_FRAMER", "CURFEW_LOOP")
"""Of the caller's variables that PostgreSQL's clients and Curfew read, those that are meant for the demo too."""
INTERRUPTED = 130
LOOK_S = 1.0


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/demo.sh", description="Curfew, running on this machine for a while.")
    parser.add_argument("--once", action="store_true", help="play the whole story, check each step, and end")
    once = parser.parse_args().once
    for name in [name for name in os.environ if name.startswith(("PG", "CURFEW_")) and name not in KEPT]:
        del os.environ[name]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # also where the shell that started us ignores Ctrl-C
    play, began = Play(), time.monotonic()
    try:
        with standing(play) as stage:
            if once:
                story.tell(stage, play)
            else:
                _stay(stage, play)
    except StepFailedError as failed:
        play.say(f"\nthis does not hold: {failed}")
        return 1
    except KeyboardInterrupt:
        play.say("\nended, and everything removed")
        return INTERRUPTED if once else 0
    play.say(f"\nall {play.held} steps hold, in {time.monotonic() - began:.0f} s")
    return 0


def _stay(stage: Stage, play: Play) -> None:
    """Grant something, show how to use it, and wait until somebody interrupts or something breaks."""
    with play.step("a request is made and approved") as step:
        granted = story.ask(stage, step)
    with play.step("psql connects through TLS with the token") as step:
        work.connect_psql(granted, step)
    play.say(lines.for_everybody(stage, granted))
    while not stage.ended:
        time.sleep(LOOK_S)
    with play.step("everything stays up"):
        raise AssertionError(f"{' and '.join(stage.ended)} has ended")


if __name__ == "__main__":
    sys.exit(main())
