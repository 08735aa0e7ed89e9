"""What systemd is told of the service, by `$NOTIFY_SOCKET` (sd_notify(3)): it is ready, and which process it is."""

import contextlib
import socket

from router.config import notify_address


def tell_systemd(*lines: str) -> None:
    """Nothing where no one asked to be told."""
    address = notify_address()
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(1.0)
        end.connect(address)
        end.send("\n".join(lines).encode())
