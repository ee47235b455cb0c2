"""Client certificates, revocation lists, and files that change while the proxy runs, with a real PostgreSQL."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import stop
from proxy.config import read_secret
from proxy.contract.settings import AccessProfile, Keeper, SettingsError
from proxy.upstream import UpstreamError
from tests.harness import roles
from tests.harness.certs import Authority, CertificateFiles
from tests.harness.keys import Root
from tests.harness.postgres import Cluster
from tests.harness.roles import Login
from tests.harness.waiting import eventually
from tests.integration.upstream.stage import BY_BOTH, BY_CERTIFICATE, refused
from tests.integration.upstream.targets import dialler_of, log_in, profile_of, secret_of, target_of


def certified(login: Login, files: CertificateFiles, folder: Path | None = None) -> AccessProfile:
    """A profile with a client certificate, and with the login's password where there is a folder for it."""
    return AccessProfile(
        user=login.user,
        password=secret_of(login.password, folder, login.user) if folder else None,
        certificate_file=str(files.certificate),
        key_file=str(files.key),
    )


def serial(files: CertificateFiles) -> int:
    """A certificate's number."""
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


@pytest.fixture
def files(ca: Authority, tmp_path: Path) -> CertificateFiles:
    """A client certificate for BY_CERTIFICATE."""
    return ca.client(BY_CERTIFICATE.user, folder=tmp_path)


async def test_login_by_certificate(odd_postgres: Cluster, tmp_path: Path, files: CertificateFiles) -> None:
    """pg_hba.conf's `cert`: no password is asked for, and none is configured."""
    (await log_in(dialler_of(odd_postgres, tmp_path), certified(BY_CERTIFICATE, files))).close()


async def test_certificate_and_password(odd_postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """pg_hba.conf's `clientcert=verify-full` wants both."""
    profile = certified(BY_BOTH, ca.client(BY_BOTH.user, folder=tmp_path), tmp_path)
    (await log_in(dialler_of(odd_postgres, tmp_path), profile)).close()
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler_of(odd_postgres, tmp_path), profile_of(BY_BOTH, tmp_path))
    assert "28000" in refused(caught.value, BY_BOTH.password)


async def test_somebody_elses_certificate(odd_postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """Or none at all: the proxy's own login was refused, which is no matter of the person's."""
    other = certified(BY_CERTIFICATE, ca.client("somebody_else", folder=tmp_path))
    for profile in (other, AccessProfile(user=BY_CERTIFICATE.user)):
        with pytest.raises(UpstreamError) as caught:
            await log_in(dialler_of(odd_postgres, tmp_path), profile)
        assert "28000" in refused(caught.value)


async def test_each_login_has_its_own(
    odd_postgres: Cluster, ca: Authority, tmp_path: Path, files: CertificateFiles
) -> None:
    """One target, one dialler, two certificates and a login without: none has another's."""
    both_files = ca.client(BY_BOTH.user, stem="both", folder=tmp_path)
    both = certified(BY_BOTH, both_files, tmp_path)
    plain = profile_of(roles.APP, tmp_path)
    dialler = dialler_of(odd_postgres, tmp_path)
    for profile, number in ((certified(BY_CERTIFICATE, files), files), (both, both_files), (plain, None)):
        backend = await log_in(dialler, profile)
        shown = await backend.value("SELECT coalesce(client_serial, 0) FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        backend.close()
        assert int(shown) == (0 if number is None else serial(number))
    with pytest.raises(UpstreamError):
        await log_in(dialler, AccessProfile(user=BY_CERTIFICATE.user))


async def test_a_renewed_certificate_counts_at_once(
    odd_postgres: Cluster, ca: Authority, tmp_path: Path, files: CertificateFiles
) -> None:
    """The files change under a running proxy, and what was read of the old ones is not used any more."""
    ca.client("somebody_else", folder=tmp_path)
    profile, dialler = certified(BY_CERTIFICATE, files), dialler_of(odd_postgres, tmp_path)
    with pytest.raises(UpstreamError):
        await log_in(dialler, profile)
    ca.client(BY_CERTIFICATE.user, stem="new", folder=tmp_path)
    (tmp_path / "new.pem").replace(files.certificate)
    (tmp_path / "new.key").replace(files.key)
    (await log_in(dialler, profile)).close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
async def test_a_key_that_others_may_read(
    odd_postgres: Cluster, tmp_path: Path, files: CertificateFiles, mode: int
) -> None:
    """At the start it is a fault of the configuration; in a running proxy it ends this session's login alone."""
    dialler, profile = dialler_of(odd_postgres, tmp_path), certified(BY_CERTIFICATE, files)
    os.chown(files.key, 65_534 if os.getuid() == 0 else -1, -1)
    files.key.chmod(mode)
    with pytest.raises(SettingsError, match=r"^targets\.orders\.access\.x\.key_file: .*client\.key is open to others"):
        dialler_of(odd_postgres, tmp_path, access={"x": profile})
    with pytest.raises(UpstreamError) as caught:
        await log_in(dialler, profile)
    assert "open to others" in refused(caught.value)


@pytest.mark.parametrize(
    ("certificate", "key"), [("client.key", "client.pem"), ("client.pem", "other.key"), ("no.pem", "client.key")]
)
def test_files_that_are_no_pair(
    odd_postgres: Cluster, ca: Authority, tmp_path: Path, certificate: str, key: str
) -> None:
    """Are named, each by its login's section."""
    for stem in ("client", "other"):
        ca.client("x", stem=stem, folder=tmp_path).certificate.chmod(0o600)
    files = CertificateFiles(certificate=tmp_path / certificate, key=tmp_path / key)
    with pytest.raises(SettingsError, match=r"^targets\.orders\.access\.x\.key_file: .* are no pair"):
        dialler_of(odd_postgres, tmp_path, access={"x": certified(BY_CERTIFICATE, files)})


async def test_an_expired_server(own_postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """A certificate whose time is over vouches for nobody, whoever signed it."""
    ca.server(folder=own_postgres.data, until=datetime.now(UTC) - timedelta(days=1))
    own_postgres.reload()
    profile = profile_of(roles.APP, tmp_path)

    async def exchanged() -> bool:
        try:
            (await log_in(dialler_of(own_postgres, tmp_path, sslmode="verify-ca"), profile)).close()
        except UpstreamError as error:
            return "certificate has expired" in refused(error)
        return False

    await eventually(exchanged)


@pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca", "require"])
async def test_a_revoked_server(own_postgres: Cluster, tmp_path: Path, sslmode: str) -> None:
    """A server whose certificate its authority has revoked is refused; an empty list lets it in."""
    root = Root(key=ec.generate_private_key(ec.SECP256R1()), hash_=hashes.SHA256())
    served = root.server(own_postgres.data).certificate
    own_postgres.reload()
    trusted = {"ca_file": str(root.write(tmp_path / "root.pem")), "sslmode": sslmode}
    empty, full = root.revoke(tmp_path / "empty.pem", []), root.revoke(tmp_path / "full.pem", [served])
    profile = profile_of(roles.APP, tmp_path)

    async def lets_in(crl: Path) -> bool:
        try:
            (await log_in(dialler_of(own_postgres, tmp_path, **trusted, crl_file=str(crl)), profile)).close()
        except UpstreamError as error:
            return "certificate revoked" in refused(error) if crl == full else False
        return crl == empty

    await eventually(lambda: lets_in(empty))
    assert await lets_in(full)


async def test_no_list_of_that_authority(postgres: Cluster, tmp_path: Path) -> None:
    """With a revocation list, an authority without one vouches for nobody (as in libpq)."""
    root = Root(key=ec.generate_private_key(ec.SECP256R1()), hash_=hashes.SHA256())
    dialler = dialler_of(postgres, tmp_path, crl_file=str(root.revoke(tmp_path / "other.pem", [])))
    with pytest.raises(UpstreamError, match="unable to get certificate CRL"):
        await log_in(dialler, profile_of(roles.APP, tmp_path))


def test_no_list_at_all(postgres: Cluster, tmp_path: Path) -> None:
    """A file that is missing, or holds something else."""
    for content in (None, b"nonsense"):
        file = tmp_path / "crl.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(SettingsError, match=r"^targets\.orders\.crl_file: .*crl\.pem"):
            dialler_of(postgres, tmp_path, crl_file=str(file))


async def test_a_certificate_as_crl(postgres: Cluster, ca: Authority, tmp_path: Path) -> None:
    """A file with a certificate in it is no revocation list: nobody is let in on the strength of it."""
    dialler = dialler_of(postgres, tmp_path, crl_file=str(ca.file))
    with pytest.raises(UpstreamError, match="unable to get certificate CRL"):
        await log_in(dialler, profile_of(roles.APP, tmp_path))


async def test_a_keeper_by_certificate(
    odd_postgres: Cluster, ca: Authority, tmp_path: Path, files: CertificateFiles
) -> None:
    """The keeper's own login has one too, and a renewed one counts at its next connection."""
    ca.client("somebody_else", folder=tmp_path)
    login = Keeper(user=BY_CERTIFICATE.user, certificate_file=str(files.certificate), key_file=str(files.key))
    target = msgspec.structs.replace(target_of(odd_postgres, tmp_path), keeper=login)
    keeper = stop.Keeper("orders", target, read_secret=read_secret)
    await keeper.start()
    assert not keeper.ready
    ca.client(BY_CERTIFICATE.user, stem="new", folder=tmp_path)
    (tmp_path / "new.pem").replace(files.certificate)
    (tmp_path / "new.key").replace(files.key)
    await eventually(lambda: keeper.ready)
    await keeper.close()
