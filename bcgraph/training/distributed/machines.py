"""How processes of several machines find each other: by a store of the first, which listens on one address alone.

A cluster that the user has named is told where to listen; torch's own meeting point would take every interface of the
first machine. Tensors travel on the interface of the same address.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import torch.distributed as dist

# What Linux calls the request for the address of an interface, and where it stands in the answer.
_ADDRESS_OF_INTERFACE = 0x8915
_IPV4 = slice(20, 24)


@dataclass(frozen=True)
class Meeting:
    """Where processes meet: the address and the port of the first one's store, and how many they are."""

    host: str
    port: int
    number: int


@dataclass(eq=False)
class Listener:
    """The socket on which the first process waits for the others. It listens on `host` alone."""

    host: str
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_server((self.host, 0))

    @property
    def port(self) -> int:
        """The free port that it has found."""
        port: int = self.socket.getsockname()[1]
        return port


def join(meeting: Meeting, rank: int, address: str, *, cuda: bool = False, listener: Listener | None = None) -> None:
    """Make this process number `rank` of the group; `address` is that of its machine, the first has a `listener`.

    Lightning Fabric then finds the group as it is, and this process as the only one of its node.
    """
    name = interface(address)
    if name is not None:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, name)
    os.environ |= {"NODE_RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(meeting.number)}
    store = dist.TCPStore(  # type: ignore[attr-defined]
        meeting.host,
        meeting.port,
        meeting.number,
        listener is not None,
        wait_for_workers=False,
        master_listen_fd=None if listener is None else listener.socket.detach(),
    )
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=meeting.number)


def interface(address: str) -> str | None:
    """The name of the network interface with this IPv4 address; None where it cannot be found."""
    with suppress(ImportError, OSError):
        import fcntl

        wanted = socket.inet_aton(address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            for _, name in socket.if_nameindex():
                with suppress(OSError):
                    request = struct.pack("256s", name.encode()[:15])
                    if fcntl.ioctl(asked.fileno(), _ADDRESS_OF_INTERFACE, request)[_IPV4] == wanted:
                        return name
    return None
