"""Hosts of their own on this machine: network namespaces joined by a bridge, whose cables can be pulled.

A pulled cable is silence: no reset, no unreachable, as when a switch dies. run.sh gives the tests a network of their own,
so nothing here is seen by other programs, and all of it ends with them.
"""

import subprocess

BRIDGE = "kith0"
SUBNET = "10.77.0"


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


class Host:
    """One namespace; `wrap` runs a command in it."""

    def __init__(self, number):
        self.name = f"host{number}"
        self.cable = f"cable{number}"
        self.address = f"{SUBNET}.{number}"
        self.wrap = ["ip", "netns", "exec", self.name]
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.cable, "master", BRIDGE, "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def cut(self):
        """Nothing comes in or goes out; both sides still believe in their connections."""
        ip("link", "set", self.cable, "down")

    def heal(self):
        ip("link", "set", self.cable, "up")

    def deafen(self):
        """What it sends arrives, nothing reaches it: half a link."""
        subprocess.run(["bridge", "link", "set", "dev", self.cable, "learning", "off", "flood", "off", "mcast_flood",
                        "off", "bcast_flood", "off"], check=True)
        ip("link", "set", self.cable, "type", "bridge_slave", "fdb_flush")

    def hear(self):
        subprocess.run(["bridge", "link", "set", "dev", self.cable, "learning", "on", "flood", "on", "mcast_flood", "on",
                        "bcast_flood", "on"], check=True)

    def limit(self, mbit_per_s):
        """So much a second in each direction (a token bucket of 256 KiB)."""
        bucket = ["root", "tbf", "rate", f"{mbit_per_s}mbit", "burst", "256kb", "latency", "50ms"]
        subprocess.run(["tc", "qdisc", "replace", "dev", self.cable, *bucket], check=True)
        subprocess.run(["tc", "-n", self.name, "qdisc", "replace", "dev", "eth0", *bucket], check=True)

    def delete(self):
        ip("netns", "delete", self.name)  # its cable goes with it


class Network:
    """The tests' own address is SUBNET.254."""

    def __init__(self):
        self.hosts = []
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{SUBNET}.254/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def host(self):
        host = Host(len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def delete(self):
        for host in self.hosts:
            host.delete()
        ip("link", "delete", BRIDGE)
