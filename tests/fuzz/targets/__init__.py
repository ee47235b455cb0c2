"""The fuzz targets, a module each: `check(data)` raises AssertionError, or whatever the code should not have raised.

`mutate(data, random)` gives the next input to try, where the target's inputs have a form; `DICTIONARY` what is worth
putting into them. A target says in its docstring what it promises for every input.
"""

UNGUIDED = ("shortcut",)
"""What is tried is C, whose branches nobody sees, and is not there beside sources that are watched: plain mutation."""

NAMES = ("framing", "startup", "scram", "bind", "tracker", "shortcut")

OPEN = ("conversation",)
"""What has found a fault that is not mended yet: run by name alone, and no part of the suite until then.

An Execute that was answered (its portal suspended) has in its end the error of something behind it in the same round
(`blamed-for-what-came-behind`). What ran, and that it ran, is on record.
"""
