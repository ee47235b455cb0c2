"""Telling systemd how we are (sd_notify(3)): for units of `Type=notify`. Says nothing where nobody listens."""

import os
import socket


def notify(state: str) -> None:
    """Send `state` to the socket in $NOTIFY_SOCKET, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:
            return
