"""The life of a feed, which its clients conduct: the feed action is told of each change of the trigger it fires."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fallow_cli.client import Client, server_words
from fallow_cli.entities import annotation, entity_path
from fallow_cli.errors import CliError

FEED = "feed"  # the annotation of a trigger that a feed fires


def feed_of(trigger: Mapping[str, Any]) -> str | None:
    """The name of the feed that fires the trigger."""
    feed = annotation(trigger, FEED)
    return feed if isinstance(feed, str) and feed else None


async def exists(client: Client, feed: str) -> bool:
    answer = await client.request("GET", entity_path(feed, "feed"), query={"code": "false"})
    return answer.status != 404


async def tell(client: Client, feed: str, event: str, trigger: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Tells the feed of CREATE, READ, UPDATE or DELETE, and gives what it returns.

    The feed gets the caller's key, with which it will fire the trigger. Raises CliError where it did not succeed.
    """
    message = {
        **given,
        "lifecycleEvent": event,
        "triggerName": f"/{trigger['namespace']}/{trigger['name']}",
        "authKey": client.target.key,
    }
    path = entity_path(feed, "feed")
    answer = await client.request("POST", path, body=json.dumps(message).encode(), query={"blocking": "true"})
    document = answer.json() if answer.body else {}
    if answer.status == 200:
        return document["response"]["result"]
    if answer.status == 202:
        raise CliError(
            f"the feed {feed} has not answered {event} yet\nsee `fallow activation get {document['activationId']}`"
        )
    response = document.get("response") if isinstance(document, dict) else None
    words = json.dumps(response["result"]) if response else server_words(answer)
    raise CliError(f"the feed {feed} did not {event.lower()}: {words}")
