"""The floor that the whole path is measured against: an aiohttp handler that reads a body and answers fixed bytes.

`python -m loadtest.bare` reads one JSON line {"body", "headers"} from standard input, prints its port, serves until it
is told to stop. Same library, same event loop, same bytes as the controller's answer to a warm `echo`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

from fallow.infra import tasks


def app(body: bytes, headers: dict[str, str]) -> web.Application:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, headers=headers)

    application = web.Application()
    application.router.add_post("/{path:.*}", handle)
    return application


async def _main(stop: asyncio.Event) -> int:
    given = json.loads(sys.stdin.readline())
    runner = web.AppRunner(app(given["body"].encode(), given["headers"]), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(tasks.run(_main))
