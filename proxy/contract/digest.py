"""SHA-256 of a line: in C where that was built (`proxy.contract._digest`), else by hashlib.

Compiled or not, it is the same library that computes it. CURFEW_FRAMER=python forces the latter (`proxy/__init__.py`).
"""

import hashlib
import os
from typing import TYPE_CHECKING

__all__ = ["sha256_hex"]


def _by_hashlib(data: bytes) -> str:
    """SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


if TYPE_CHECKING or os.environ.get("CURFEW_FRAMER") == "python":
    sha256_hex = _by_hashlib
else:
    try:
        from proxy.contract._digest import sha256_hex
    except ImportError:  # not built here, or hashlib runs on something else
        sha256_hex = _by_hashlib
