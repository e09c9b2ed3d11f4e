"""By which address the nodes of a step find each other."""

import socket

import pytest

from faceid.errors import ConfigError
from faceid.training.world import address
from faceid.training.world.address import INTERFACE_KEY, own_address, tell_gloo

TWO = {"lo": "127.0.0.1", "eth0": "10.0.0.5", "ib0": "10.1.0.5"}


@pytest.fixture
def interfaces(monkeypatch):
    """Set what this machine's interfaces are said to be."""

    def set_to(addresses):
        monkeypatch.setattr(address, "_addresses", lambda: addresses)

    return set_to


def test_on_one_node_it_is_loopback():
    assert own_address({"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}, is_one_node=True) == "127.0.0.1"


def test_a_named_interface_wins(interfaces):
    interfaces(TWO)
    for is_one_node in (True, False):
        assert own_address({INTERFACE_KEY: "ib0"}, is_one_node) == "10.1.0.5"
    with pytest.raises(ConfigError, match=r"GLOO_SOCKET_IFNAME=ib7: .* has no such network interface .* eth0, ib0, lo"):
        own_address({INTERFACE_KEY: "ib7"}, is_one_node=False)


def test_otherwise_it_is_the_one_towards_where_slurm_started_the_step(monkeypatch):
    # Of this machine's real interfaces: an address of its own is reached from itself.
    outward = [a for a in address._addresses().values() if not a.startswith("127.")]
    if not outward:
        pytest.skip("this machine has no network but loopback")
    assert own_address({"SLURM_LAUNCH_NODE_IPADDR": outward[0]}, is_one_node=False) == outward[0]


def test_without_a_hint_one_network_is_taken_and_two_are_asked_about(interfaces):
    interfaces({"lo": "127.0.0.1", "eth0": "10.0.0.5"})
    for environment in ({}, {"SLURM_LAUNCH_NODE_IPADDR": "127.0.1.1"}):
        assert own_address(environment, is_one_node=False) == "10.0.0.5"
    interfaces(TWO)
    with pytest.raises(ConfigError, match=rf"{socket.gethostname()} has 2 networks \(eth0, ib0\); .*NETWORK_INTERFACE"):
        own_address({}, is_one_node=False)


def test_gloo_is_told_the_interface_unless_it_was(interfaces):
    interfaces(TWO)
    environment = {}
    tell_gloo(environment, "10.1.0.5")
    assert environment == {INTERFACE_KEY: "ib0"}
    tell_gloo(environment, "10.0.0.5")
    assert environment == {INTERFACE_KEY: "ib0"}
