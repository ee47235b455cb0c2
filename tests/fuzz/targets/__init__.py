"""The fuzz targets, a module each: `check(data)` raises AssertionError, or whatever the code should not have raised.

`mutate(data, random)` gives the next input to try, where the target's inputs have a form; `DICTIONARY` what is worth
putting into them. A target says in its docstring what it promises for every input.
"""

UNGUIDED = ("shortcut",)
"""What is tried is C, whose branches nobody sees, and is not there beside sources that are watched: plain mutation."""

NAMES = ("framing", "startup", "scram", "bind", "tracker", "conversation", "shortcut")
