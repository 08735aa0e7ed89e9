"""Who owns an engine host: the one frontend on whose connection its life hangs, and which may drain, stop and wake it.

    none --the starter joins--> owned --`hand_over`, and that process joins--> by two --`give_up` of either--> owned
                                  +--the last owner's connection ends--> the host stops

Two own it only while a frontend hands it over: whichever of them ends, the engine serves on. Knows no frames.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Peer = TypeVar("Peer")


class Owners(Generic[Peer]):
    """`stop` is called when the last owner's connection has ended."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._peers: set[Peer] = set()
        self._next_pid = 0  #: of a process that may join as a further owner; 0: none may

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._peers

    def refusal(self, pid: int) -> str:
        """Why process `pid` (0: unknown) may not join as an owner, or empty."""
        if self._peers and pid != os.getppid() and not self._awaited(pid):
            return "this engine host has an owner; join it as a client"
        return ""

    def join(self, peer: Peer, pid: int) -> None:
        """The process that started the host becomes its owner also where another was one: that one is a client then."""
        if self._awaited(pid):
            self._next_pid = 0
        else:
            self._peers.clear()
        self._peers.add(peer)

    def left(self, peer: Peer) -> None:
        """The connection of `peer`, an owner or not, has ended."""
        if peer in self._peers:
            self._peers.discard(peer)
            if not self._peers:
                self._stop()

    def hand_over(self, pid: str) -> str:
        """Let process `pid` join as an owner too; `0`: nobody. Why that is not possible, or empty."""
        if not (pid.isascii() and pid.isdigit()):
            return f"hand_over: expected a process id, got {pid[:40]!r}"
        self._next_pid = int(pid)
        return ""

    def give_up(self, peer: Peer) -> str:
        """Make an owner a client. Why that is not possible, or empty."""
        if self._peers == {peer}:
            return "give_up: this is the only owner; another must have joined"
        self._peers.discard(peer)
        return ""

    def _awaited(self, pid: int) -> bool:
        return pid != 0 and pid == self._next_pid
