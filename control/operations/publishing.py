"""Publishing the log's heads where this machine cannot take them back: to write-once folders, and to URLs.

Each target has its own task: one that hangs or fails keeps no other from its heads, and never the service from its
work. A folder's files are only ever created; a URL gets a POST of the newest head, again later where it fails.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import structlog

from control.config import is_url
from control.operations.log import LogError, head
from control.services import Services
from control.store.engine import DatabaseError
from control.store.signals import wait
from control.store.tree import Head
from control.tasks import spawn

POST_S = 10.0
LONGEST_WAIT_S = 3_600.0
STOPPING = "stopping"
"""A topic that nothing but the service's end wakes."""

log = structlog.get_logger(__name__)


class PublishError(Exception):
    """A head did not get to its target. Says why."""


def start(services: Services) -> Sequence[asyncio.Task[None]]:
    """Publish to every target, until the service stops."""
    return [spawn(f"publish {label(target)}", publish(services, target)) for target in services.settings.log.publish]


async def publish(services: Services, target: str) -> None:
    """Give `target` each new head, at most every `publish_s`; after a failure later and later, up to an hour."""
    every = services.settings.log.publish_s
    name, published, failures = label(target), -1, 0
    with services.store.signals.listen(STOPPING) as stopping:
        while not services.stopping.is_set():
            try:
                newest = await head(services)
                if newest.size > published:
                    await deliver(newest, target)
                    published, failures = newest.size, 0
                    services.metrics.log_published.labels(name).set(published)
            except (PublishError, LogError, DatabaseError) as error:
                failures += 1
                services.metrics.log_publish_failures.labels(name).inc()
                log.error("a head of the log was not published", target=name, why=str(error))  # noqa: TRY400 a condition
            except Exception:  # the task's edge: whatever a target does, the next head is tried again
                failures += 1
                services.metrics.log_publish_failures.labels(name).inc()
                log.exception("a head of the log was not published", target=name)
            await wait(stopping, _pause(every, failures))


def _pause(every: float, failures: int) -> float:
    """How long to wait: twice as long with each failure, up to LONGEST_WAIT_S where `every` is not longer still."""
    return max(every, min(every * 2.0 ** min(failures, 20), LONGEST_WAIT_S)) if failures else every


async def deliver(newest: Head, target: str) -> None:
    """Bring one head to one target. Raises PublishError."""
    if is_url(target):
        await _post(newest.note, target)
    else:
        await asyncio.to_thread(write, newest, Path(target))


def label(target: str) -> str:
    """The target's name for logs and metrics: of a URL the host alone, because its path or query may be a secret."""
    return urlsplit(target).netloc if is_url(target) else target


def write(newest: Head, folder: Path) -> None:
    """Add the head to `folder` as a file of its own, and never touch one that is there. Raises PublishError."""
    path = folder / f"checkpoint-{newest.size:015}"
    content = newest.note.encode()
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            if _read(path, len(content) + 1) != content:
                raise PublishError(f"{path} holds another head: it was cut short, or there are two logs") from None
            return
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror}") from error


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


async def _post(note: str, url: str) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", "user-agent": "curfew-control"}
    try:
        async with (
            asyncio.timeout(POST_S),
            httpx2.AsyncClient(timeout=POST_S) as http,
            # Streamed, and its body left unread: whatever is answered, it costs no memory.
            http.stream("POST", url, content=note.encode(), headers=headers) as response,
        ):
            status = response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError, TimeoutError) as error:
        raise PublishError(f"it could not be reached: {type(error).__name__}") from error
    if not 200 <= status < 300:  # noqa: PLR2004 RFC 9110: success
        raise PublishError(f"it answered {status}")
