"""What an alarm does when it is due: fires its trigger, on behalf of whoever made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controller.api.errors import ApiError
from controller.firing import Firing
from controller.invocations import Caller, mint_id
from fallow.core.alarms import Alarm, Fired


def fires_with(firing: Firing, throttle: Callable[[str], Awaitable[None]]) -> Callable[[Alarm], Awaitable[Fired]]:
    """`throttle` counts a fire of the namespace, as it does those of clients; raises ApiError 429 over the limit."""

    async def fire(alarm: Alarm) -> Fired:
        # No key: none was kept, so actions that want their caller's get none.
        caller = Caller(namespace=alarm.namespace, subject=alarm.subject, transaction_id=mint_id())
        try:
            await throttle(alarm.namespace)
            await firing.fire(caller, alarm.trigger, alarm.payload)
        except ApiError as e:
            return Fired.NO_TRIGGER if e.status == 404 else Fired.NOT_NOW
        return Fired.DONE

    return fire
