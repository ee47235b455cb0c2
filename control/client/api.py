"""Talking HTTP to the control service: one place that knows requests, TLS and what can go wrong on the way.

Answers are decoded JSON; every failure is a ClientError in words. Never retries by itself (`waiting` does), never
follows a redirect (the key would follow too).
"""

import os
import ssl
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from control.client.answers import Page, read
from control.client.config import LOOPBACK, Login, current
from control.client.errors import ClientError, UnreachableError, from_problem

CONNECT_S = 10.0
READ_S = 60.0
PAGE = 100
LARGEST_PAGE = 1_000
"""The service gives no more at once."""
PROBLEM_BYTES = 64 * 1024
LINE_BYTES = 512 * 1024 * 1024
"""No record is longer: PostgreSQL's own longest statement is below 1 GiB, the proxy's limit below this."""
SUCCESS = range(200, 300)


class Api:
    """The API, as one person. Use as a context manager."""

    def __init__(self, login: Login, *, transport: httpx2.BaseTransport | None = None) -> None:
        host = urlsplit(login.url).hostname
        self.url = login.url
        self._client = httpx2.Client(
            base_url=login.url,
            headers={
                "Authorization": f"Bearer {login.api_key}",
                "Accept": "application/json",
                "User-Agent": "curfew",
            },
            verify=_trust(login.ca_file),
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
            trust_env=host not in LOOPBACK,  # a web proxy cannot reach our own machine
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, *, patience_s: float = 0, **query: str | float | None) -> Any:  # noqa: ANN401 JSON
        """GET, decoded. `patience_s` is how long the service may think (long poll) on top of the usual time."""
        return self._call("GET", path, query=query, timeout=READ_S + patience_s)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 JSON
        """POST a JSON object, decoded answer."""
        return self._call("POST", path, body={} if body is None else body)

    def text(self, path: str) -> str:
        """GET a short plain text; more than PROBLEM_BYTES of it are not read."""
        with _in_words(self.url), self._client.stream("GET", path, headers={"Accept": "text/plain"}) as response:
            body = _beginning(response)
            if response.status_code not in SUCCESS:
                raise from_problem(response.status_code, body)
        return body.decode(errors="replace")

    def page(self, path: str, *, limit: int = PAGE, **query: str | None) -> Page:
        """A list's first `limit` items, however many requests that takes; its `next` says whether there is more."""
        items: list[Any] = []
        after: str | int | None = None
        while True:
            asked = query | {"limit": min(LARGEST_PAGE, limit - len(items)), "after": after}
            part = read(Page, self._call("GET", path, query=asked))
            items += part.items
            if part.next is None or part.next == after or not part.items or len(items) >= limit:
                return Page(items=items[:limit], next=part.next)
            after = part.next

    def lines(self, path: str, **query: str | float | None) -> Generator[bytes]:
        r"""An NDJSON answer line by line, byte for byte. Only `\n` ends a line: JSON may hold U+2028 and its kin."""
        with (
            _in_words(self.url),
            self._client.stream(
                "GET", path, params=_given(query), headers={"Accept": "application/x-ndjson"}
            ) as response,
        ):
            if response.status_code not in SUCCESS:
                raise from_problem(response.status_code, _beginning(response))
            yield from _split(response.iter_bytes())

    def pieces(self, path: str, **query: str | float | None) -> Generator[bytes]:
        """An answer of any kind and length, piece by piece. Raises where it is cut."""
        with _in_words(self.url), self._client.stream("GET", path, params=_given(query)) as response:
            if response.status_code not in SUCCESS:
                raise from_problem(response.status_code, _beginning(response))
            yield from response.iter_bytes()

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        timeout: float = READ_S,
    ) -> Any:  # noqa: ANN401 JSON
        with _in_words(self.url):
            response = self._client.request(
                method,
                path,
                params=_given(query or {}),
                json=body,
                timeout=httpx2.Timeout(timeout, connect=CONNECT_S),
            )
        if response.status_code not in SUCCESS:
            raise from_problem(response.status_code, response.content[:PROBLEM_BYTES])
        try:
            return msgspec.json.decode(response.content) if response.content else {}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ClientError(
                f"{self.url} answered, but not as a Curfew control service does",
                hint="is the address right? `curfew login --url` sets it",
            ) from error


def segment(text: str) -> str:
    """`text` as one segment of a path, whatever is in it."""
    return quote(text, safe="") or "-"


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in `chunks` without their newlines; the parts of a long one are joined once."""
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        pending.append(first)
        size += len(first)
        for part in others:
            if line := b"".join(pending):
                yield line
            pending, size = [part], len(part)
        if size > LINE_BYTES:
            raise ClientError(f"the service sent a line of more than {LINE_BYTES} bytes")
    if line := b"".join(pending):
        yield line


def _beginning(response: httpx2.Response) -> bytes:
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) >= PROBLEM_BYTES:
            break
    return body[:PROBLEM_BYTES]


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ClientError(
            f"cannot use the CA file {ca_file}: {error.strerror or error}",
            hint="it must be PEM; `curfew login --ca-file` or CURFEW_CA_FILE names it",
        ) from error


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Failures of the network as errors that say what to look at."""
    host = urlsplit(url).netloc
    try:
        yield
    except httpx2.TimeoutException as error:
        raise UnreachableError(
            f"{host} did not answer in time", hint="is the network up, and the address right?"
        ) from error
    except httpx2.TransportError as error:
        raise _network(host, error) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UnreachableError(f"cannot talk to {host}: {error}") from error


def _network(host: str, error: httpx2.TransportError) -> ClientError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ClientError(
                f"the certificate of {host} is not to be trusted: {cause.verify_message}",
                hint="if it is right, name the authority that signed it: --ca-file at login, or CURFEW_CA_FILE",
            )
    text = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "SSL:" in text:
        return ClientError(f"{host} does not speak TLS as expected", hint="is the port right, and is it https://?")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes) or "refused" in text:
        return UnreachableError(f"nothing answers at {host}", hint="is the control service running, the port right?")
    if any(isinstance(cause, OSError) and "gai" in type(cause).__name__ for cause in causes):
        return UnreachableError(f"the name {host} cannot be resolved", hint="is the address right, the network up?")
    return UnreachableError(f"the connection to {host} failed: {error}", hint="is the network up?")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def from_environment() -> Api:
    """The API as the person who is logged in, or whom the environment names. Raises ClientError."""
    return Api(current(os.environ))
