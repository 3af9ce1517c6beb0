"""Who is there: leases of controllers, and roles that only one of them may have."""

from __future__ import annotations

from fallow.infra.records import ControllerLease
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.rows import LEASES


class LeaseStore:
    _connection: Connection

    async def renew_lease(self, lease: ControllerLease, ttl_s: float) -> None:
        """Takes or renews a lease; without another renewal it lapses after `ttl_s`."""
        controller_id = lease.controller_id
        await self._connection.run(
            scripts.RENEW_LEASE,
            [keys.lease(controller_id), keys.leases()],
            [controller_id, LEASES.to_bytes(lease), _ms(ttl_s)],
        )

    async def release_lease(self, controller_id: str) -> None:
        """Ends a lease at once, for a controller that leaves in order."""
        await self._connection.pipeline(
            [
                ("DEL", keys.lease(controller_id)),
                ("SREM", keys.leases(), controller_id),
                ("HDEL", keys.seen(), controller_id),
            ],
        )

    async def live_controllers(self) -> list[ControllerLease]:
        """Controllers whose lease stands, by id."""
        found = await self._connection.run(scripts.LIVE_CONTROLLERS, [keys.leases(), keys.seen()], [keys.lease("")])
        return [LEASES.from_bytes(data, keys.leases()) for data in found]

    async def note_seen(self, controller_id: str, number: int) -> None:
        """The controller uses nothing any more that was replaced by a change of this number or a lower one."""
        await self._connection.run(scripts.NOTE_SEEN, [keys.lease(controller_id), keys.seen()], [controller_id, number])

    async def behind(self, controller_id: str, number: int | None = None) -> tuple[int, list[str]]:
        """The live controllers but this one that have not noted a change of that number yet, after the number.

        None = the last change there was.
        """
        found, *others = await self._connection.run(
            scripts.BEHIND,
            [keys.leases(), keys.seen(), keys.change_number()],
            [keys.lease(""), controller_id, "" if number is None else number],
        )
        return int(found), sorted(other.decode() for other in others)

    async def hold(self, name: str, owner: str, ttl_s: float) -> bool:
        """Takes or keeps the role `name` for `ttl_s`; False = another owner has it."""
        return bool(await self._connection.run(scripts.HOLD, [keys.role(name)], [owner, _ms(ttl_s)]))

    async def release(self, name: str, owner: str) -> bool:
        """Gives a role back; False = it was not this owner's."""
        return bool(await self._connection.run(scripts.RELEASE, [keys.role(name)], [owner]))


def _ms(duration_s: float) -> int:
    return max(1, round(duration_s * 1000))
