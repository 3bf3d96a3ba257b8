"""Limits on the hosts that are connected to: no host on this machine or a private network, and no http after https.

Manifests are written by others: an address in one could send requests to a server on this machine, or read a cloud's
credentials at 169.254.169.254, with this machine's rights. aiohttp is imported only when an address is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import urllib.request
from typing import Any
from urllib.parse import urlsplit


class UnreachableError(OSError):
    """An address leads to a host that may not be connected to; the text names the host."""


def is_private(host: str) -> bool:
    """Check whether an IP address belongs to this machine or a private network, or is not on the internet otherwise."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # the network's gateway translates it to IPv4
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(str(inner))
    return not ip.is_global or ip.is_multicast


async def open_client(scheme: str, allow_private: bool, loop: Any = None, **given: Any) -> Any:
    """Open aiohttp's client, which checks every connection, those of redirects included.

    Parameters
    ----------
    scheme
        Scheme of the addresses that the client is for; a redirect from https to http is refused.
    allow_private
        Whether connections to private addresses are allowed.
    loop, given
        Arguments that fsspec passes to aiohttp.
    """
    import aiohttp

    proxies = await _addresses_of_proxies()

    async def refuse_private(request: Any, handler: Any) -> Any:
        """Refuse a request before it is sent, also where a proxy would look up the name."""
        if scheme == "https" and request.url.scheme != "https":
            raise UnreachableError(f"it redirects from https to {request.url.scheme}://{request.url.host}")
        if not allow_private:
            await _refuse_private(request.url.host or "")
        return await handler(request)

    def connect(found: Any) -> socket.socket:
        """Make the socket for the address that is connected to: another look-up of the name could give another one."""
        family, kind, protocol, _, place = found
        if not allow_private and place[0] not in proxies and is_private(place[0]):
            raise _refusal(place[0])
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=connect)
    return aiohttp.ClientSession(loop=loop, connector=connector, middlewares=(refuse_private,), **given)


async def _refuse_private(host: str) -> None:
    for found in await _addresses_of(host):
        if is_private(found):
            raise _refusal(host if host == found else f"{host}, that is {found},")


async def _addresses_of(host: str) -> list[str]:
    """Look up the IP addresses of a name; empty where the name is unknown here, as behind a proxy."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(place[0]) for *_, place in found]


async def _addresses_of_proxies() -> frozenset[str]:
    hosts = {urlsplit(proxy).hostname for name, proxy in urllib.request.getproxies().items() if name != "no"}
    return frozenset([address for host in hosts if host for address in await _addresses_of(host)])


def _refusal(place: str) -> UnreachableError:
    return UnreachableError(f"it leads to {place} on this machine or a private network")
