"""Whether what the configuration names is there and works: secrets, certificates, folders, PostgreSQL itself.

Looks and reports; it creates, repairs and deletes nothing. `on_disk` is for every start, because PostgreSQL need not be
up yet when the proxy is; `everything` is for `curfew-proxy check`.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from proxy import account_check, backends, membership, pooled
from proxy.config import Configuration, ProxySettings, parse_listen, read_secret
from proxy.contract.settings import AccessProfile, Host, Secret, SettingsError, Target
from proxy.contract.token import KeySet, KeySetError
from proxy.dial import UpstreamError, dial
from proxy.peer import gid, uids
from proxy.places import JOURNAL
from proxy.query import SETTINGS, Connection, LostError, QueryError
from proxy.replication import PLACEHOLDER
from proxy.tls import served_names
from proxy.upstream import Dialler
from proxy.upstream_tls import Contexts, key_fault, logins, no_passphrase
from proxy.wire import messages


def on_disk(configuration: Configuration, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The faults that this machine alone can show, each with its key's path and what to do. Reads every secret."""
    proxy = configuration.proxy
    faults = [*_certificate_faults(proxy), *_socket_faults(proxy), *_folder_faults(Path(proxy.state_dir))]
    if proxy.tls_client_ca_file is not None:
        faults += _authority_faults("proxy.tls_client_ca_file", proxy.tls_client_ca_file)
    if proxy.jwks_file is not None:
        faults += _jwks_faults(proxy.jwks_file)
    if proxy.control is not None and proxy.control.ca_file is not None:
        faults += _authority_faults("proxy.control.ca_file", proxy.control.ca_file)
    for name, target in configuration.targets.items():
        faults += [*_target_file_faults(name, target), *account_check.file_faults(name, target)]
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
    certificates = [(path, certificate) for path, certificate, _, _ in _certificates(configuration.proxy)]
    for name, target in targets:
        for path, login in logins(name, target):
            if login.certificate_file is not None:
                certificates.append((f"{path}.certificate_file", Path(login.certificate_file)))
    expired = [fault for path, certificate in certificates for fault in _expiry_faults(path, certificate)]
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


def _certificates(proxy: ProxySettings) -> Iterator[tuple[str, Path, str, Path]]:
    """Every certificate that clients may see, and its key, each with its option's path."""
    yield (
        "proxy.tls_certificate_file",
        Path(proxy.tls_certificate_file),
        "proxy.tls_key_file",
        Path(proxy.tls_key_file),
    )
    for index, more in enumerate(proxy.tls_certificates):
        path = f"proxy.tls_certificates[{index}]"
        yield f"{path}.certificate_file", Path(more.certificate_file), f"{path}.key_file", Path(more.key_file)


def _certificate_faults(proxy: ProxySettings) -> list[str]:
    """What stops the proxy from serving TLS with its certificates and keys."""
    faults: list[str] = []
    for path, certificate, key_path, key in _certificates(proxy):
        if unreadable := [*_unreadable(path, certificate), *_unreadable(key_path, key)]:
            faults += unreadable
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=no_passphrase)
            if path != "proxy.tls_certificate_file" and not served_names(path, certificate):
                faults.append(f"{path}: {certificate} is for no DNS name, so nobody would ever get it")
        except (OSError, ValueError) as error:
            faults.append(f"{key_path}: {key} and {certificate} are no pair of PEM key and certificate: {error}")
        except SettingsError as error:
            faults += error.faults
    return faults


def _target_file_faults(name: str, target: Target) -> list[str]:
    """What stops the proxy from doing TLS with a target's authorities and its logins' certificates."""
    if target.sslmode == "disable":
        return []
    path = f"targets.{name}"
    faults = _authority_faults(f"{path}.ca_file", target.ca_file) if target.ca_file is not None else []
    faults += _unreadable(f"{path}.crl_file", Path(target.crl_file)) if target.crl_file is not None else []
    for section, login in logins(name, target):
        if login.certificate_file is not None and login.key_file is not None:
            faults += _unreadable(f"{section}.certificate_file", Path(login.certificate_file))
            fault = key_fault(Path(login.key_file))
            faults += (
                [f"{section}.key_file: {fault}"] if fault else _unreadable(f"{section}.key_file", Path(login.key_file))
            )
    if not faults:
        try:
            Contexts(name, target)
        except SettingsError as error:
            faults += error.faults
    return faults


def _expiry_faults(path: str, certificate: Path) -> list[str]:
    """For `check` alone: the certificate will be refused, but that is no reason to refuse to start."""
    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError as error:
        return [f"{path}: {certificate} does not begin with a certificate: {error}"]
    if end <= datetime.now(UTC):
        return [f"{path}: {certificate} has expired at {end:%Y-%m-%d %H:%M} UTC; renew it"]
    return []


def _socket_faults(proxy: ProxySettings) -> list[str]:
    """What stops the proxy from making its unix sockets, as far as can be seen without making them."""
    faults: list[str] = []
    listeners = [(f"proxy.listen[{index}]", text) for index, text in enumerate(proxy.listen)]
    listeners += [(f"proxy.oauth.listen[{index}]", text) for index, text in enumerate(proxy.oauth.listen)]
    for key, text in listeners:
        folder = parse_listen(text)[0]
        if not folder.startswith("/"):
            continue
        if not Path(folder).is_dir():
            faults.append(f"{key}: {folder} is not a folder; make it, owned by the proxy")
        elif not os.access(folder, os.W_OK | os.X_OK):
            faults.append(f"{key}: no socket can be made in {folder}; give it to the proxy's user")
    for path, resolve in (
        ("users", lambda: uids(proxy.unix_socket.users)),
        ("group", lambda: gid(proxy.unix_socket)),
    ):
        try:
            resolve()
        except LookupError as error:
            faults.append(f"proxy.unix_socket.{path}: {error}")
    return faults


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
    """Connect to a target's hosts, then log in to it in every way that the proxy would, one after the other."""
    path = f"targets.{name}"

    def dialler(changed: Target) -> Dialler:
        return Dialler(name, changed, read_secret=lambda secret: read_secret(secret, environment))

    reached = await asyncio.gather(*(_host_faults(name, target, host) for host in target.hosts))
    faults = [fault for found in reached for fault in found]
    down = {host for host, found in zip(target.hosts, reached, strict=True) if found}
    for host in target.servers:
        if host not in down:
            faults += await _keeper_faults(path, dialler(target.at(host)), target)
    if all(reached):
        return faults
    sessions = dialler(target)
    faults += await account_check.keeper_faults(name, target, dialler)
    for key, profile in target.access.items():
        if profile.identity != "vaulted":
            continue
        faults += await _login_faults(f"{path}.access.{key}", sessions, profile, target)
        if profile.replication != "none":
            faults += await _replication_faults(f"{path}.access.{key}", sessions, profile)
    return faults


async def _host_faults(name: str, target: Target, host: Host) -> list[str]:
    """Connect to one host, and do no more than TLS."""
    path = f"targets.{name}.host"
    try:
        tls = await asyncio.to_thread(Contexts(name, target).get, target.keeper)
        async with asyncio.timeout(target.connect_timeout_s) as deadline:
            direct = target.sslnegotiation == "direct"
            leg, _ = await dial(host, tls, direct=direct, until=deadline.when() or 0.0)
        await leg.close()
    except SettingsError as error:
        return list(error.faults)
    except TimeoutError:
        return [f"{path}: no connection to {host} in {target.connect_timeout_s:g} s"]
    except UpstreamError as error:
        advice = "see that PostgreSQL is up, and that host, port, sslmode, sslnegotiation and ca_file are right"
        return [f"{path}: {error}; {advice}"]
    return []


async def _keeper_faults(path: str, dialler: Dialler, target: Target) -> list[str]:
    """Log in as the keeper, and ask what it may do."""
    keeper = target.keeper
    parameters = [(b"user", keeper.user.encode()), (b"database", keeper.database.encode()), *SETTINGS]
    try:
        connection = Connection(await dialler.log_in(keeper, parameters), on_end=lambda: None)
    except UpstreamError as error:
        return [f"{path}.keeper: {error}; {_login_advice(keeper.user, keeper.database)}"]
    try:
        rights = await backends.rights(connection, target.stored_logins, timeout_s=target.connect_timeout_s)
    except (QueryError, LostError) as error:
        return [f"{path}.keeper: {error}"]
    finally:
        connection.close()
    refused = [
        f"{path}.access.{key}.user: sessions would be refused, because of the keeper: {rights.unendable[profile.login]}"
        for key, profile in target.access.items()
        if profile.identity == "vaulted" and profile.login in rights.unendable
    ]
    return [*(f"{path}.keeper.user: {lack}" for lack in rights.lacks), *refused]


def _login_advice(user: str, database: str) -> str:
    return f"see that {user} may log in to {database} with this password (deploy/keeper.sql, pg_hba.conf)"


async def _login_faults(path: str, dialler: Dialler, login: AccessProfile, target: Target) -> list[str]:
    """Log in as a profile; behind a pooler, see that it pools sessions."""
    parameters = [(b"user", login.login.encode()), (b"database", target.database.encode())]
    try:
        connected = await dialler.log_in(login, parameters)
    except UpstreamError as error:
        return [f"{path}: {error}; {_login_advice(login.login, target.database)}"]
    try:
        if target.pooler != "none":
            await pooled.check(connected, lambda: dialler.log_in(login, parameters))
        connected.leg.write(messages.TERMINATE)
    except UpstreamError as error:
        return [f"{path}: {error}"]
    finally:
        with contextlib.suppress(OSError):  # it may close first, and asyncio then fails to shut its half down
            await connected.leg.close()
    return []


async def _replication_faults(path: str, dialler: Dialler, login: AccessProfile) -> list[str]:
    """Whether PostgreSQL lets `login` start a walsender. It takes one of max_wal_senders for a moment."""
    parameters = [(b"user", login.login.encode()), (b"database", PLACEHOLDER), (b"replication", b"true")]
    try:
        connected = await dialler.connect(login, parameters)
    except UpstreamError as error:
        advice = (
            f"ALTER ROLE {login.login} REPLICATION, and give it a line for the database `replication` in pg_hba.conf"
        )
        return [f"{path}.replication: {error}; {advice}"]
    connected.leg.write(messages.TERMINATE)
    await connected.leg.close()
    return []
