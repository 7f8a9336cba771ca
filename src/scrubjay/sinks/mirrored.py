"""Several sinks that hold the same epochs: losing one of them loses nothing.

The mirror is a sink like any other, with the id that the superblock names. Its members bear
ids that follow from it, so a member by itself is foreign to the pool: nobody rotates one
alone and leaves the others behind.

What is forgotten is forgotten in every member. So a rotation begins only when all are there,
and one that is away when an epoch is dropped is **owed**: the epoch stays listed, and
`drop` raises Unavailable, until that member was seen to be rid of it or was expelled.
A member that was put back to an older epoch is brought forward by the next `drop`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Self, TypeVar
from uuid import UUID

from msgspec.structs import replace

from scrubjay.base.errors import (
    Conflict,
    Corrupt,
    Invalid,
    NotFound,
    ScrubjayError,
    Unavailable,
)
from scrubjay.base.ids import Epoch
from scrubjay.sinks.attestation import Evidence
from scrubjay.sinks.attesting import Attesting, signers_of
from scrubjay.sinks.budget import Budget, scarcest
from scrubjay.sinks.membership import (
    MEMBERS_MAX,
    Expelled,
    Member,
    Membership,
    RecordStore,
    decode,
    encode,
    first_record,
    member_id,
)
from scrubjay.sinks.reach import Members, Reach, explained, find, usable
from scrubjay.sinks.sink import Grade, Part, Sink, Worth, check_new, weakest

__all__ = ["MemberState", "MirroredSink"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemberState:
    """One member as it is now."""

    member: Member
    sink_id: UUID
    epochs: tuple[Epoch, ...]
    away: str
    """Why it is out of reach; "" where it is not."""
    worth: Worth | None
    """What its forgetting is worth; None where it is away."""


def _alone(
    method: Callable[Concatenate[MirroredSink, P], T],
) -> Callable[Concatenate[MirroredSink, P], T]:
    """Let one thread at a time do any of this: the API asks while a rotation runs."""

    @wraps(method)
    def locked(self: MirroredSink, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked


class MirroredSink:
    """A sink made of sinks."""

    def __init__(self, store: RecordStore, members: Members) -> None:
        """Open the members; Unavailable unless one of them is within reach."""
        self.lock = threading.RLock()
        self._store = store
        self._record = decode(store.read())
        self._reach = Reach(members)
        self._reach.renew(self._record)
        try:
            self._reach.survey(self._record)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls,
        store: RecordStore,
        members: Members,
        *,
        mirror_id: UUID,
        pool_id: UUID,
        places: list[tuple[str, str]],
        epoch: Epoch,
        key: bytes,
        formerly: Expelled | None = None,
    ) -> Self:
        """Make the members on these (kind, where), then the record, which makes it a mirror.

        To mirror a pool's single sink, give its id as the mirror's, its epoch and key, and
        itself as `formerly`; destroy it afterwards, and say so with `mark_destroyed(0)`.
        """
        record = first_record(mirror_id, pool_id, places, formerly=formerly)
        for member in record.members:
            members.make(
                member,
                sink_id=member_id(mirror_id, member.number),
                pool_id=pool_id,
                epoch=epoch,
                key=key,
            ).close()
        store.create(encode(record))
        return cls(store, members)

    @property
    def kind(self) -> str:
        """What kind of sink this is."""
        return "mirror"

    @property
    def sink_id(self) -> UUID:
        """The id that the superblock names; no member bears it."""
        return self._record.mirror

    @property
    def pool_id(self) -> UUID:
        """The only pool that this sink serves."""
        return self._record.pool

    # --- what every sink does ---------------------------------------------------------

    @_alone
    def epochs(self) -> tuple[Epoch, ...]:
        """Return the epochs that some member holds or may still hold, ascending."""
        survey = self._reach.survey(self._record)
        held = {epoch for keys in survey.values() for epoch in keys}
        return tuple(sorted(held | set(map(Epoch, self._record.owed))))

    @_alone
    def key(self, epoch: Epoch) -> bytes:
        """Return an epoch's key; NotFound once any member has dropped it for a newer one."""
        keys = usable(self._reach.survey(self._record))
        if epoch not in keys:
            raise NotFound(f"sink {self.sink_id}: epoch {epoch} not held, expected its key")
        return keys[epoch]

    @_alone
    def prepare(self, epoch: Epoch, key: bytes) -> None:
        """Store the fresh key of a new epoch in every member; Unavailable if one is away."""
        self._reach.renew(self._record)
        survey = self._reach.survey(self._record)
        self._reach.refuse_away(self._record, "a new epoch needs all of them")
        held = {each: known for keys in survey.values() for each, known in keys.items()}
        check_new(self.sink_id, held, epoch, key)
        if self._record.owed:
            raise Conflict(
                f"sink {self.sink_id}: epoch {self._record.owed[0]} owed, expected none",
                hint="the last rotation was interrupted: open the pool anew, it settles that",
            )
        for number in survey:
            self._in(number, lambda sink: sink.prepare(epoch, key))
            if self._in(number, lambda sink: sink.key(epoch)) != key:
                raise Corrupt(f"sink {self.sink_id}: member {number} keeps another key")

    @_alone
    def drop(self, epoch: Epoch) -> None:
        """Destroy an epoch's key in every member.

        Unavailable while one is away: those within reach have dropped it then, and it is
        owed until the others have, or were expelled.
        """
        self._reach.renew(self._record)
        survey = self._reach.survey(self._record)
        if epoch not in self._record.owed and not any(epoch in keys for keys in survey.values()):
            return
        rest = {each: key for each, key in usable(survey).items() if each != epoch}
        if not rest:
            raise Conflict(
                f"sink {self.sink_id}: epoch {epoch} is the last one, expected another beside"
            )
        owed = sorted({*self._record.owed, epoch})
        self._enter(replace(self._record, owed=owed))
        for number, keys in survey.items():
            self._drop_in(number, keys, epoch, rest)
        self._reach.refuse_away(self._record, f"epoch {epoch} is not forgotten yet")
        left = [each for each in owed if each != epoch]
        self._enter(replace(self._record, owed=left))

    @_alone
    def scour(self) -> None:
        """Destroy what an interrupted step left, in every member within reach."""
        self._reach.renew(self._record)
        for number in self._reach.survey(self._record):
            self._in(number, lambda sink: sink.scour())

    @_alone
    def worth(self) -> Worth:
        """Say what its weakest member is worth; one away or expelled may keep its keys."""
        reach, worths = self._reach, []
        for each in self._record.expelled:
            if not each.destroyed:
                listed = " and ".join(map(str, each.epochs))
                reason = f"it was expelled and may still hold epoch {listed}: destroy it"
                worths.append(Worth(Grade.CONDITIONAL, each.member.place, reason))
        for number, error in reach.away.items():
            reason = f"it is away, and nobody sees what it keeps ({error.message})"
            worths.append(Worth(Grade.CONDITIONAL, find(self._record, number).place, reason))
        worths += [sink.worth() for number, sink in reach.sinks.items() if number not in reach.away]
        worst = weakest(worths)
        place = f"{len(self._record.members)} mirrored sinks, the weakest on {worst.place}"
        return Worth(worst.grade, place, worst.reason)

    @_alone
    def parts(self) -> list[Part]:
        """Return the members within reach, and those expelled that may still hold keys."""
        parts = [
            Part(sink.kind, sink.sink_id, sink.worth(), sink.epochs())
            for number, sink in sorted(self._reach.sinks.items())
            if number not in self._reach.away
        ]
        for number, error in self._reach.away.items():
            member = find(self._record, number)
            reason = f"it is away, and nobody sees what it keeps ({error.message})"
            worth = Worth(Grade.CONDITIONAL, member.place, reason)
            parts.append(Part(member.kind, member_id(self.sink_id, number), worth, ()))
        for each in self._record.expelled:
            if not each.destroyed:
                listed = " and ".join(map(str, each.epochs))
                reason = f"it was expelled and may still hold epoch {listed}: destroy it"
                worth = Worth(Grade.CONDITIONAL, each.member.place, reason)
                sink_id = member_id(self.sink_id, each.member.number)
                parts.append(Part(each.member.kind, sink_id, worth, (), residue=reason))
        return parts

    @_alone
    def signers(self) -> dict[UUID, bytes]:
        """Return the names of the keys with which members within reach sign, by sink id."""
        return {
            sink_id: name
            for number, sink in self._reach.sinks.items()
            if number not in self._reach.away
            for sink_id, name in signers_of(sink).items()
        }

    @_alone
    def attest(self, sink_id: UUID, epoch: Epoch, challenge: bytes) -> Evidence:
        """Have a member sign; NotFound where none of this id is within reach, or it signs nothing.

        One that fails at it is not away: it holds its keys, and drops them, as before.
        """
        for number, sink in self._reach.sinks.items():
            if number in self._reach.away or sink.sink_id != sink_id:
                continue
            if isinstance(sink, Attesting):
                return sink.attest(sink_id, epoch, challenge)
        raise NotFound(f"sink {self.sink_id}: no member {sink_id} that signs, expected one")

    @_alone
    def budget(self) -> Budget:
        """Say how often the member that can afford least can rotate."""
        return scarcest([sink.budget() for sink in self._reach.sinks.values()])

    @_alone
    def close(self) -> None:
        """Let go of every member."""
        for number in list(self._reach.sinks):
            self._reach.let_go(number)

    # --- who belongs to it ------------------------------------------------------------

    @_alone
    def members(self) -> list[MemberState]:
        """Return every member, and what it holds or why it is away."""
        self._reach.renew(self._record)
        try:
            survey = self._reach.survey(self._record)
        except Unavailable:  # of none, which is what is to be shown
            survey = {}
        return [
            MemberState(
                member,
                member_id(self.sink_id, member.number),
                tuple(sorted(survey.get(member.number, ()))),
                explained(away) if (away := self._reach.away.get(member.number)) else "",
                None if away else self._reach.sinks[member.number].worth(),
            )
            for member in self._record.members
        ]

    def expelled(self) -> tuple[Expelled, ...]:
        """Return who is no member any more, and the epochs that each may still hold."""
        return tuple(self._record.expelled)

    def owed(self) -> tuple[Epoch, ...]:
        """Return the epochs that not every member was seen to be rid of."""
        return tuple(map(Epoch, self._record.owed))

    @_alone
    def expel(self, number: int) -> None:
        """End a membership; what the sink may hold is residue until it is destroyed.

        For a member that is lost. NotFound if it is none, Conflict if no other is there.
        """
        member = find(self._record, number)
        survey = self._reach.survey(self._record)
        if not any(each != number for each in survey):
            raise Conflict(
                f"sink {self.sink_id}: member {number} is the last within reach, "
                "expected another beside"
            )
        known = {epoch for keys in survey.values() for epoch in keys} | set(self._record.owed)
        residue = Expelled(member, sorted(survey.get(number, known)))
        left = [each for each in self._record.members if each.number != number]
        expelled = [*self._record.expelled, residue]
        self._enter(replace(self._record, members=left, expelled=expelled))
        self._reach.let_go(number)

    @_alone
    def replace(self, number: int, *, kind: str, where: str) -> Member:
        """Put a new sink in the place of a member, or of one that was expelled; return it.

        It gets the key of the one epoch; Conflict during a rotation. It is entered before it
        is made: where that fails, it is a member that is away, and is replaced in turn. So
        no key lies where nobody looks.
        """
        epoch, key = self._ready_for(kind, where)
        if all(each.member.number != number for each in self._record.expelled):
            self.expel(number)
        return self._join(kind, where, epoch, key)

    @_alone
    def add(self, *, kind: str, where: str) -> Member:
        """Put one more sink beside the others, as `replace` does; Invalid where they are 8."""
        if len(self._record.members) >= MEMBERS_MAX:
            raise Invalid(f"sink {self.sink_id}: {MEMBERS_MAX} members, expected fewer")
        return self._join(kind, where, *self._ready_for(kind, where))

    @_alone
    def mark_destroyed(self, number: int) -> None:
        """Note that an expelled sink is destroyed, which an operator says and nothing proves."""
        if all(each.member.number != number for each in self._record.expelled):
            raise NotFound(f"sink {self.sink_id}: {number} not expelled, expected one that was")
        expelled = [
            replace(each, destroyed=each.destroyed or each.member.number == number)
            for each in self._record.expelled
        ]
        self._enter(replace(self._record, expelled=expelled))

    # --- leaves -----------------------------------------------------------------------

    def _ready_for(self, kind: str, where: str) -> tuple[Epoch, bytes]:
        """Return the one epoch and its key, for a sink at a place where no member is."""
        self._reach.renew(self._record)
        if any((each.kind, each.where) == (kind, where) for each in self._record.members):
            raise Conflict(f"sink {self.sink_id}: {where} is a member, expected another place")
        keys = usable(self._reach.survey(self._record))
        if len(keys) != 1 or self._record.owed:
            raise Conflict(
                f"sink {self.sink_id}: within a rotation, expected one epoch",
                hint="expel the lost member first, and open the pool: that settles it",
            )
        ((epoch, key),) = keys.items()
        return epoch, key

    def _join(self, kind: str, where: str, epoch: Epoch, key: bytes) -> Member:
        member = Member(self._record.next_number, kind, where)
        members = [*self._record.members, member]
        self._enter(replace(self._record, members=members, next_number=member.number + 1))
        self._reach.add(self._record, member, epoch, key)
        return member

    def _in(self, number: int, deed: Callable[[Sink], T]) -> T:
        """Have a member do something; it is away where that fails."""
        try:
            return deed(self._reach.sinks[number])
        except ScrubjayError as error:
            self._reach.away[number] = error
            raise

    def _drop_in(
        self, number: int, held: dict[Epoch, bytes], epoch: Epoch, rest: dict[Epoch, bytes]
    ) -> None:
        """Drop an epoch in one member, brought forward first where it holds nothing else.

        What an interrupted drop left of it goes too: it is owed no longer after this.
        """
        sink = self._reach.sinks[number]
        newest = max(rest)
        try:
            sink.scour()
            if set(held) == {epoch}:
                sink.prepare(newest, rest[newest])
            sink.drop(epoch)
        except ScrubjayError as error:
            self._reach.away[number] = error  # the others go on; then it is missed

    def _enter(self, record: Membership) -> None:
        """Make a record durable, and believe it only then."""
        if record != self._record:
            self._store.replace(encode(record))
            self._record = record
