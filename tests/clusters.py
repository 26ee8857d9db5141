"""A real Redis Cluster of local servers: three primaries and a replica of each."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

import redis

from tests.servers import HOST, START_LIMIT, PrivateRedis, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS = 3

_CONNECTION: Any = redis.Connection  # one of redis's that has no types
SLOTS = 16_384


class ClusterServer(PrivateRedis):
    """One node."""

    def __init__(self) -> None:
        super().__init__()
        self.bus_port = free_port()

    def _command(self) -> list[str]:
        # A node that is silent for a second has failed; replicas that are as old as can be may still take over.
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": "1000",
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
        }
        return [
            *super()._command(),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    def ask(self, *command: Any) -> Any:
        """Send a command to this node, and return the reply as it came."""
        connection = _CONNECTION(host=HOST, port=self.port, socket_timeout=5)
        try:
            connection.connect()
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    @property
    def node_id(self) -> str:
        """What the other nodes call it."""
        return str(self.ask("CLUSTER", "MYID").decode())


class PrivateCluster:
    """Six nodes that a test may break. A context manager: entering starts and joins them, leaving kills them.

    Attributes:
        primaries: Those that own slots at the start, in order of their slots.
        replicas: One for each, in the same order.
    """

    def __init__(self) -> None:
        self.primaries = [ClusterServer() for _ in range(SHARDS)]
        self.replicas = [ClusterServer() for _ in range(SHARDS)]
        self._stack = contextlib.ExitStack()

    @property
    def nodes(self) -> list[ClusterServer]:
        """All of them."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return f"redis+cluster://{HOST}:{self.primaries[0].port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        for number, node in enumerate(self.primaries):
            start, end = SLOTS * number // SHARDS, SLOTS * (number + 1) // SHARDS - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", start, end)
        for number, node in enumerate(self.nodes):
            # Before anybody has met it: those who meet settle their epochs by themselves.
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes):
            for other in self.nodes[:number]:  # all pairs: gossip would take seconds
                node.ask("CLUSTER", "MEET", HOST, other.port, other.bus_port)
        self._wait(
            lambda: all(self._known(node) == len(self.nodes) for node in self.nodes), "they do not meet"
        )
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.node_id)
        self._wait(lambda: all(map(_is_ready, self.nodes)), "the cluster is not ready")
        self._wait(lambda: all(map(_follows, self.replicas)), "a replica does not follow")
        self._wait(
            lambda: all(node.ask("CLUSTER", "NODES").count(b"slave") == SHARDS for node in self.nodes),
            "not everybody knows the replicas",
        )

    def _known(self, node: ClusterServer) -> int:
        lines = node.ask("CLUSTER", "NODES").decode().splitlines()
        return sum("handshake" not in line and "noaddr" not in line for line in lines)

    def move_slot(self, slot: int, source: ClusterServer, target: ClusterServer) -> None:
        """Give an empty slot to another primary, as resharding does."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)

    def _wait(self, true: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure}: {self.nodes[0].ask('CLUSTER', 'NODES').decode()}")
            time.sleep(0.02)


def _is_ready(node: ClusterServer) -> bool:
    return b"cluster_state:ok" in node.ask("CLUSTER", "INFO")


def _follows(node: ClusterServer) -> bool:
    return b"master_link_status:up" in node.ask("INFO", "replication")
