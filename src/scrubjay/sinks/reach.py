"""Which members of a mirror are within reach, what each holds, and where they disagree.

A member that fails at anything is **away** from then on, with the error that said so, until
it could be opened anew. One whose file was replaced under it is not opened anew: what lies
there is a copy, and the open file still has its keys. It is away until that file is back.
"""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from scrubjay.base.errors import Corrupt, Invalid, NotFound, ScrubjayError, Unavailable
from scrubjay.base.ids import Epoch
from scrubjay.sinks.locked import Displaced, Placed
from scrubjay.sinks.membership import Member, Membership, member_id
from scrubjay.sinks.sink import Sink

__all__ = ["Held", "Members", "Reach", "explained", "find", "usable"]

Held = dict[int, dict[Epoch, bytes]]
"""The keys of each member within reach, by its number."""


class Members(Protocol):
    """Opens and makes the sinks that a record names; wiring knows the kinds."""

    def open(self, member: Member) -> Sink:
        """Open a member's sink; any ScrubjayError says why it is away."""
        ...

    def make(
        self, member: Member, *, sink_id: UUID, pool_id: UUID, epoch: Epoch, key: bytes
    ) -> Sink:
        """Make the sink of a new member that holds this epoch; Conflict where one lies."""
        ...


class Reach:
    """The open sinks of a mirror's members."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.sinks: dict[int, Sink] = {}
        """Those that were opened, by the member's number."""
        self.away: dict[int, ScrubjayError] = {}
        """Why each of the others is not to be had."""

    def renew(self, record: Membership) -> None:
        """Open each member that is not open, and again each one that was away."""
        for member in record.members:
            number = member.number
            if number in self.sinks and self._stays(number):
                continue
            self.let_go(number)
            try:
                self.sinks[number] = self._checked(record, member)
            except ScrubjayError as error:
                self.away[number] = error

    def survey(self, record: Membership) -> Held:
        """Return what each member within reach holds; who fails to say is away.

        Corrupt where two hold different keys for one epoch, Unavailable where none is left.
        """
        survey: Held = {}
        for number, sink in self.sinks.items():
            if number in self.away:
                continue
            try:
                keys = {epoch: sink.key(epoch) for epoch in sink.epochs()}
            except ScrubjayError as error:
                self.away[number] = error
                continue
            if keys:
                survey[number] = keys
            else:
                self.away[number] = Corrupt(f"sink {sink.sink_id}: holds no epoch, expected one")
        if not survey:
            why = "; ".join(error.message for error in self.away.values())
            raise Unavailable(f"sink {record.mirror}: no member within reach: {why}")
        _agree(record.mirror, survey)
        return survey

    def add(self, record: Membership, member: Member, epoch: Epoch, key: bytes) -> None:
        """Make a new member's sink; where that fails, it is away."""
        try:
            self.sinks[member.number] = self._members.make(
                member,
                sink_id=member_id(record.mirror, member.number),
                pool_id=record.pool,
                epoch=epoch,
                key=key,
            )
        except ScrubjayError as error:
            self.away[member.number] = error
            raise

    def let_go(self, number: int) -> None:
        """Close a member's sink, if it is open."""
        self.away.pop(number, None)
        if sink := self.sinks.pop(number, None):
            sink.close()

    def refuse_away(self, record: Membership, why: str) -> None:
        """Raise Unavailable where a member is away."""
        for number, error in self.away.items():
            member = next(each for each in record.members if each.number == number)
            raise Unavailable(
                f"sink {record.mirror}: {member.place} is away ({error.message}), "
                f"expected every member: {why}",
                hint=error.hint or "bring it back; if it is lost for good, replace it",
            )

    def _stays(self, number: int) -> bool:
        """Whether a member that is open stays so, within reach or displaced."""
        sink, away = self.sinks[number], self.away.get(number)
        try:
            if isinstance(sink, Placed):
                sink.expect_in_place()
        except Displaced as error:
            self.away[number] = error
            return True
        except ScrubjayError:
            return False
        if isinstance(away, Displaced):  # the file is back
            del self.away[number]
        return number not in self.away

    def _checked(self, record: Membership, member: Member) -> Sink:
        sink = self._members.open(member)
        expected = member_id(record.mirror, member.number), record.pool
        if (sink.sink_id, sink.pool_id) == expected:
            return sink
        sink.close()
        raise Invalid(
            f"{member.place}: sink {sink.sink_id} of pool {sink.pool_id}, "
            f"expected sink {expected[0]} of pool {expected[1]}"
        )


def usable(survey: Held) -> dict[Epoch, bytes]:
    """Return the keys of the epochs that no member has left behind for a newer one."""
    floor = max(min(keys) for keys in survey.values())
    keys = {epoch: key for keys in survey.values() for epoch, key in keys.items()}
    return {epoch: key for epoch, key in keys.items() if epoch >= floor}


def explained(away: ScrubjayError) -> str:
    """Return why a member is away, and what to do about it."""
    return f"{away.message}; {away.hint}" if away.hint else away.message


def _agree(mirror: UUID, survey: Held) -> None:
    seen: dict[Epoch, tuple[int, bytes]] = {}
    for number, keys in survey.items():
        for epoch, key in keys.items():
            other, known = seen.setdefault(epoch, (number, key))
            if known != key:
                raise Corrupt(
                    f"sink {mirror}: members {other} and {number} differ in epoch {epoch}, "
                    "expected one key",
                    hint="one of them was put back from a copy: expel that one",
                )


def find(record: Membership, number: int) -> Member:
    """Return a member; NotFound if it is none."""
    for member in record.members:
        if member.number == number:
            return member
    raise NotFound(f"sink {record.mirror}: no member {number}, expected one of its own")
