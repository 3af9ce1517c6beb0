"""Calls of the official npm package `openwhisk`, made in a Node program that a test drives."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from support.patience import patient

CALL_S = 60.0


class ClientError(Exception):
    """What the client throws: its message, the server's status and body."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.name, self.status, self.body = error["name"], error.get("status"), error.get("body")


@dataclass
class OpenWhisk:
    """The client of a Node program, with the options it was made with."""

    process: asyncio.subprocess.Process
    options: dict[str, Any]

    async def __call__(self, resource: str, verb: str, options: Any = None) -> Any:
        """What `openwhisk(...)[resource][verb](options)` resolves to; raises ClientError for what it rejects with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        call = {"client": self.options, "resource": resource, "verb": verb, "options": options}
        self.process.stdin.write(json.dumps(call).encode() + b"\n")
        line = await asyncio.wait_for(self.process.stdout.readline(), patient(CALL_S))
        assert line, "the Node program ended"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer.get("value")

    def with_options(self, **options: Any) -> OpenWhisk:
        """Another client in the same program."""
        return OpenWhisk(self.process, {**self.options, **options})
