"""Whether what the configuration names is there and works: secrets, certificates, folders, PostgreSQL itself.

Looks and reports; it creates, repairs and deletes nothing. `on_disk` is for every start, because PostgreSQL need not be
up yet when the proxy is; `everything` is for `curfew-proxy check`.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from proxy import membership
from proxy.config import Configuration, ProxySettings, read_secret
from proxy.contract.settings import AccessProfile, Secret, SettingsError, Target
from proxy.contract.token import KeySet, KeySetError
from proxy.dial import UpstreamError, dial
from proxy.places import JOURNAL
from proxy.upstream import Dialler
from proxy.wire import messages

_SUPERUSER = b"is_superuser\0on\0"


def on_disk(configuration: Configuration, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The faults that this machine alone can show, each with its key's path and what to do. Reads every secret."""
    proxy = configuration.proxy
    faults = [*_certificate_faults(proxy), *_folder_faults(Path(proxy.state_dir))]
    if proxy.jwks_file is not None:
        faults += _jwks_faults(proxy.jwks_file)
    if proxy.control is not None and proxy.control.ca_file is not None:
        faults += _authority_faults("proxy.control.ca_file", proxy.control.ca_file)
    for name, target in configuration.targets.items():
        if target.ca_file is not None and target.sslmode != "disable":
            faults += _authority_faults(f"targets.{name}.ca_file", target.ca_file)
    for path, secret in secrets_of(configuration):
        try:
            read_secret(secret, environment)
        except SettingsError as error:
            faults.append(f"{path}: {error}")
    if proxy.control is not None and proxy.control.join_token is None and not _has_joined(proxy):
        faults.append("proxy.control.join_token: missing; this proxy has yet to join (`curfew-control join-token`)")
    return faults


async def everything(configuration: Configuration, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The faults `on_disk`, and where there are none, those that each target's PostgreSQL shows, at the same time."""
    if faults := await asyncio.to_thread(on_disk, configuration, environment):
        return faults
    targets = configuration.targets.items()
    found = await asyncio.gather(*(_target_faults(name, target, environment) for name, target in targets))
    expired = _expiry_faults(Path(configuration.proxy.tls_certificate_file))
    return [*expired, *(fault for faults in found for fault in faults)]


def secrets_of(configuration: Configuration) -> Iterator[tuple[str, Secret]]:
    """Every secret that the proxy will need, with its key's path: the join token is none once it has joined."""
    control = configuration.proxy.control
    if control is not None and control.join_token is not None and not _has_joined(configuration.proxy):
        yield "proxy.control.join_token", control.join_token
    for name, target in configuration.targets.items():
        if target.keeper.password is not None:
            yield f"targets.{name}.keeper.password", target.keeper.password
        for key, profile in target.access.items():
            if profile.password is not None:
                yield f"targets.{name}.access.{key}.password", profile.password


def _has_joined(proxy: ProxySettings) -> bool:
    return (Path(proxy.state_dir) / membership.FILE).exists()


def _certificate_faults(proxy: ProxySettings) -> list[str]:
    """What stops the proxy from serving TLS with its certificate and key."""
    certificate, key = Path(proxy.tls_certificate_file), Path(proxy.tls_key_file)
    named = {"proxy.tls_certificate_file": certificate, "proxy.tls_key_file": key}
    if faults := [fault for path, file in named.items() for fault in _unreadable(path, file)]:
        return faults
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        return [f"proxy.tls_key_file: {key} and {certificate} are no pair of PEM key and certificate: {error}"]
    return []


def _expiry_faults(certificate: Path) -> list[str]:
    """For `check` alone: clients will refuse the certificate, but that is no reason to refuse to start."""
    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError as error:
        return [f"proxy.tls_certificate_file: {certificate} does not begin with a certificate: {error}"]
    if end <= datetime.now(UTC):
        return [f"proxy.tls_certificate_file: {certificate} has expired at {end:%Y-%m-%d %H:%M} UTC; renew it"]
    return []


def _no_passphrase() -> str:
    """Answer OpenSSL, which would else ask the terminal."""
    raise ValueError("the key is encrypted; store it without a passphrase")


def _unreadable(path: str, file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return [f"{path}: {file} cannot be read: {error.strerror}; name a file that this user may read"]
    return []


def _authority_faults(path: str, file: str) -> list[str]:
    if faults := _unreadable(path, Path(file)):
        return faults
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        return [f"{path}: {file} has no PEM certificate that can be used: {error}"]
    return []


def _jwks_faults(file: str) -> list[str]:
    path = "proxy.jwks_file"
    if faults := _unreadable(path, Path(file)):
        return faults
    try:
        keys = KeySet.from_jwks(Path(file).read_bytes())
    except KeySetError as error:
        return [f"{path}: {file}: {error}"]
    return [] if len(keys) else [f"{path}: {file} holds no key that grants are signed with (Ed25519 or P-256)"]


def _folder_faults(state_dir: Path) -> list[str]:
    """What stops the proxy from making or using its state folder and the journal in it."""
    path = "proxy.state_dir"
    for folder in (state_dir, state_dir / JOURNAL):
        if folder.is_dir():
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                return [f"{path}: {folder} cannot be written to; give it to the user that the proxy runs as"]
        elif os.path.lexists(folder):
            return [f"{path}: {folder} is not a folder"]
        else:
            parent = next(one for one in folder.absolute().parents if one.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                return [f"{path}: {folder} does not exist and cannot be made in {parent}; make it, owned by the proxy"]
    return []


async def _target_faults(name: str, target: Target, environment: Mapping[str, str]) -> list[str]:
    """Connect to one target, then log in to it in every way that the proxy would, one after the other."""
    path = f"targets.{name}"
    try:
        dialler = Dialler(name, target, read_secret=lambda secret: read_secret(secret, environment))
        async with asyncio.timeout(target.connect_timeout_s) as deadline:
            leg = await dial(target, dialler.tls, deadline)
        await leg.close()
    except SettingsError as error:
        return list(error.faults)
    except TimeoutError:
        return [f"{path}.host: no connection to {target.host}:{target.port} in {target.connect_timeout_s:g} s"]
    except UpstreamError as error:
        advice = "see that PostgreSQL is up, and that host, port, sslmode and ca_file are right"
        return [f"{path}.host: {error}; {advice}"]
    keeper = AccessProfile(user=target.keeper.user, password=target.keeper.password)
    faults = await _login_faults(f"{path}.keeper", dialler, keeper, target.keeper.database)
    for key, profile in target.access.items():
        faults += await _login_faults(f"{path}.access.{key}", dialler, profile, target.database)
    return faults


async def _login_faults(path: str, dialler: Dialler, login: AccessProfile, database: str) -> list[str]:
    parameters = [(b"user", login.user.encode()), (b"database", database.encode())]
    try:
        connected = await dialler.connect(login, parameters)
    except UpstreamError as error:
        advice = f"see that {login.user} may log in to {database} with this password (deploy/keeper.sql, pg_hba.conf)"
        return [f"{path}: {error}; {advice}"]
    connected.leg.write(messages.TERMINATE)
    await connected.leg.close()
    if _SUPERUSER in connected.announcement:
        return [f"{path}.user: {login.user} is a superuser, whose backends the keeper may not end; name another role"]
    return []
