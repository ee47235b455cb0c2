"""The log's own key: it signs the heads of the tree, and nothing else. It never leaves this module.

It is not rotated: whoever keeps an old head must be able to check a new one with the key that they have.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from control.keys import KeyRingError, read_private, write_durably
from proxy.contract import checkpoint
from proxy.contract.checkpoint import Checkpoint
from proxy.contract.merkle import ProofError

FILE = "log.pem"


class LogKey:
    """The key in `folder`, under the log's name. `load` first."""

    def __init__(self, folder: Path, origin: str) -> None:
        self.path = folder / FILE
        self.origin = origin
        self._private: Ed25519PrivateKey | None = None

    @property
    def loaded(self) -> bool:
        """Whether it can sign."""
        return self._private is not None

    def load(self, newest: str | None) -> None:
        """Read the key; without a `newest` signed head it is made where there is none. Raises KeyRingError.

        It has to be the one that has signed `newest`: another key under the same name would look like a forger's.
        """
        if self._private is not None:
            return
        if self.path.exists():
            private = read_private(self.path, "the log's key", "chmod 600")
        elif newest is None:
            private = self._create()
        else:
            raise KeyRingError(f"{self.path}: is missing, and has signed heads of the log {self.origin}: {self._way()}")
        if newest is not None:
            try:
                checkpoint.verify(newest, private.public_key(), origin=self.origin)
            except ProofError as error:
                raise KeyRingError(
                    f"{self.path}: has not signed the heads of the log {self.origin}: {self._way()}"
                ) from error
        self._private = private

    def sign(self, size: int, root: bytes) -> str:
        """The head of the tree of `size` leaves, as a signed note."""
        assert self._private is not None, "not loaded"
        return checkpoint.sign(Checkpoint(origin=self.origin, size=size, root=root), self._private)

    def verifier(self) -> str:
        """The public half, as signed notes write it."""
        assert self._private is not None, "not loaded"
        return checkpoint.verifier_key(self.origin, self._private.public_key())

    def _way(self) -> str:
        return (
            "put the key back from your backup; if it is lost, move what is there away, name the log anew with "
            "control.log.origin, and tell everybody who keeps its heads"
        )

    def _create(self) -> Ed25519PrivateKey:
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self.path, pem)
        except OSError as error:
            raise KeyRingError(f"{self.path}: cannot keep the log's key: {error.strerror}") from error
        return private
