"""Find the address by which the other nodes of a Slurm step reach this one.

A node's own name is no guide. Debian's installer maps it to 127.0.1.1, and a node with several networks has one name.
But the network that Slurm itself uses is known: it leads to the address from which the step was started.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, MutableMapping

import psutil

from faceid.errors import ConfigError

LOOPBACK = "127.0.0.1"
# gloo's own name for the setting. NCCL has one too, and finds what it needs when it is not set.
INTERFACE_KEY = "GLOO_SOCKET_IFNAME"


def own_address(environment: Mapping[str, str], is_one_node: bool) -> str:
    """This node's IPv4 address for the others; loopback where there are none.

    It belongs to the interface that GLOO_SOCKET_IFNAME names, else to the one towards where Slurm started the step.
    Raises: ConfigError when there is no such interface, or when it is unclear which of several is meant.
    """
    addresses = _addresses()
    if given := environment.get(INTERFACE_KEY, "").split(",")[0]:
        if given not in addresses:
            raise ConfigError(
                f"{INTERFACE_KEY}={given}: {socket.gethostname()} has no such network interface with an IPv4 address; "
                f"set NETWORK_INTERFACE in slurm/env.sh to one of {', '.join(sorted(addresses))}, or to nothing"
            )
        return addresses[given]
    if is_one_node:
        return LOOPBACK
    started_from = environment.get("SLURM_LAUNCH_NODE_IPADDR", "")
    if started_from and not _is_loopback(started_from):
        return _address_towards(started_from)
    outward = {name: address for name, address in addresses.items() if not _is_loopback(address)}
    if len(outward) != 1:
        raise ConfigError(
            f"{INTERFACE_KEY}: not set, and {socket.gethostname()} has {len(outward)} networks "
            f"({', '.join(sorted(outward)) or 'none'}); set NETWORK_INTERFACE in slurm/env.sh"
        )
    return next(iter(outward.values()))


def tell_gloo(environment: MutableMapping[str, str], address: str) -> None:
    """Let gloo use the interface of `address`, unless one is set. By itself gloo uses what the node's name maps to."""
    if environment.get(INTERFACE_KEY):
        return
    named = [name for name, known in _addresses().items() if known == address]
    if named:
        environment[INTERFACE_KEY] = named[0]


def _addresses() -> dict[str, str]:
    """IPv4 addresses by interface."""
    found = psutil.net_if_addrs().items()
    return {name: a.address for name, given in found for a in given if a.family == socket.AF_INET}


def _address_towards(other: str) -> str:
    # Connecting a datagram socket sends nothing. It only asks the routing table.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((other, 9))
        return str(asked.getsockname()[0])


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
