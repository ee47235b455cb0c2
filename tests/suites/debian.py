"""Fetching from Debian, for suites that PyPI does not have: a source package's tarball, or what is in a binary package.

apt-get does it, with lists and a cache of its own in a temporary folder: nothing is installed, and the machine's own
apt is not touched. Signatures are apt's matter; what is unpacked is held to a pinned SHA-256 on top.
"""

import subprocess
import tempfile
from pathlib import Path

from tests.suites.sources import CannotFetchError, Pinned, Tree, check, command, unpack

_TARGETS = "$(CREATED_BY) $(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)"


class SourcePackage(Tree):
    """The upstream tarball of a Debian source package."""

    __slots__ = ()

    def download(self, folder: Path) -> None:
        """As Pinned, by apt-get."""
        with tempfile.TemporaryDirectory(prefix="curfew-apt-") as scratch:
            work = Path(scratch)
            private = _private_apt(work)
            command("apt-get", *private, "update", folder=work)
            command("apt-get", *private, "source", "--download-only", f"{self.name}={self.version}", folder=work)
            archive = next(work.glob("*.orig.tar.*"))
            check(archive, self.sha256)
            unpack(archive, folder)


class BinaryPackage(Pinned):
    """A Debian package for x86-64, unpacked and not installed: its folder stands for `/`."""

    __slots__ = ()

    def download(self, folder: Path) -> None:
        """As Pinned, by apt-get."""
        with tempfile.TemporaryDirectory(prefix="curfew-apt-") as scratch:
            work = Path(scratch)
            command("apt-get", "download", f"{self.name}={self.version}", folder=work)
            archive = next(work.glob("*.deb"))
            check(archive, self.sha256)
            command("dpkg", "-x", archive, folder)


def _private_apt(work: Path) -> list[str]:
    """Options that have apt-get know the source packages of the machine's own archives."""
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    found = command("apt-get", "indextargets", "--format", _TARGETS)
    archives = [line.split()[2:] for line in found.splitlines() if line.startswith("Packages Debian ")]
    if not archives:
        raise CannotFetchError("apt-get knows no archive of Debian's: apt-get update")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = {f"deb-src [signed-by={keys}] {address} {release} {part}\n" for address, release, part in archives}
    (work / "sources.list").write_text("".join(sorted(lines)))
    places = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
    }
    return [part for name, value in places.items() for part in ("-o", f"{name}={value}")]


def installed_version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
