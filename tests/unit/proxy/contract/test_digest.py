"""The digest is hashlib's, whoever computes it."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.digest import sha256_hex

BLOCK = 64


@given(st.binary(max_size=2000))
def test_any_text(data: bytes) -> None:
    """One after the other, each from the beginning."""
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, BLOCK - 9, BLOCK - 8, BLOCK - 1, BLOCK, BLOCK + 1, 1 << 20])
def test_sizes_around_a_block(size: int) -> None:
    """Where SHA-256's padding takes a block of its own, and far more than a line ever has."""
    data = b"\xff" * size
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [None, "text", 1])
def test_what_is_not_bytes(data: object) -> None:
    """It is refused, and what comes next is not touched by it."""
    with pytest.raises(TypeError):
        sha256_hex(data)  # type: ignore[arg-type]
    assert sha256_hex(b"") == hashlib.sha256().hexdigest()


def test_the_sources_as_they_are() -> None:
    """Where they are asked for, it is hashlib that computes it."""
    where = "import proxy.contract.digest as d; print(d.sha256_hex.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", where], env={"CURFEW_FRAMER": "python"}, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "proxy.contract.digest"
