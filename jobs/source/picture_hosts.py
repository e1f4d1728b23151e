"""Which servers pictures may be fetched from, and at which address.

A catalogue is input, so a URL in it must not reach the network that the pipeline runs in. A server is asked only if the list
names it and its address is a public one. The address that was checked is the one that is connected to.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from jobs.base.errors import DataError

REFUSED_HOST, REFUSED_ADDRESS, UNREACHABLE = "refused_host", "refused_address", "unreachable"
_PORTS = {"http": 80, "https": 443}
# A public address at which a cloud answers machines of its own, and the prefix under which IPv6 wraps any IPv4 address.
_WITHIN_CLOUDS = {ipaddress.ip_address("168.63.129.16")}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """A URL that is not fetched. Its only argument is the cause."""


@dataclass(frozen=True)
class Target:
    """A URL that may be fetched.

    Attributes:
        url: as it was parsed; the request is made from the same parts that were checked.
        host: name of the server, in lower case.
        port: of the server.
        address: the one to connect to.
    """

    url: Url
    host: str
    port: int
    address: str


def is_url(given: str | None) -> bool:
    """Whether a path is a URL of http or https."""
    return given is not None and given.strip().lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class HostList:
    """The servers of the setting `pictures.hosts`.

    Attributes:
        entries: (name or address, port or None) of each, the name in lower case.
        resolve: gives the addresses of a name, as `socket.getaddrinfo` does.
    """

    entries: frozenset[tuple[str, int | None]]
    resolve: Callable[..., list[tuple]] = socket.getaddrinfo

    @classmethod
    def parse(cls, text: str) -> "HostList":
        """The list of `img.example.com, *.cdn.example.com, 10.0.0.5:8080`. Raises `DataError` if an entry is no server."""
        return cls(frozenset(_entry(part.strip()) for part in text.split(",") if part.strip()))

    def named(self, url: str) -> tuple[Url, str, int]:
        """A URL as it was parsed, its server and its port. Raises `Refused` if they are not on the list."""
        try:
            parts = parse_url(url)
        except LocationParseError as error:
            raise Refused(REFUSED_HOST) from error
        host = (parts.host or "").lower().strip("[]").rstrip(".")
        if parts.scheme not in _PORTS or parts.auth is not None or not host:
            raise Refused(REFUSED_HOST)
        port = parts.port or _PORTS[parts.scheme]
        if not self._names(host, port):
            raise Refused(REFUSED_HOST)
        return parts, host, port

    def target(self, url: str) -> Target:
        """Where a URL leads. Raises `Refused` if it is not on the list, or leads to an address that is not public."""
        parts, host, port = self.named(url)
        try:
            found = self.resolve(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Refused(UNREACHABLE) from error
        addresses = [ipaddress.ip_address(entry[4][0].partition("%")[0]) for entry in found]
        if not addresses or not all(_is_public(address) or self._names(str(address), port) for address in addresses):
            raise Refused(REFUSED_ADDRESS)
        return Target(parts, host, port, str(addresses[0]))

    def _names(self, host: str, port: int) -> bool:
        labels = host.split(".")
        patterns = [host, *("*." + ".".join(labels[start:]) for start in range(1, len(labels)))]
        usual = port in _PORTS.values()
        return any((name, port) in self.entries or (usual and (name, None) in self.entries) for name in patterns)


def _entry(text: str) -> tuple[str, int | None]:
    try:
        parts = parse_url(f"http://{text}")
        host = (parts.host or "").lower().strip("[]")
        if host and not (parts.auth or parts.path or parts.query or "*" in host.removeprefix("*.")):
            return host, parts.port
    except LocationParseError:
        pass
    raise DataError(
        f"'{text}' is no server.",
        column="pictures.hosts",
        remedy="write it like img.example.com, *.example.com or img.example.com:8080.",
    )


def _is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, also where IPv6 wraps one of IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner is not None and not _is_public(inner) for inner in wrapped):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast and address not in _WITHIN_CLOUDS
