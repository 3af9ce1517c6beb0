"""Every key of the database: one naming function each, with its Redis type, its owner (who writes it), its life.

Called with "", a function of one argument gives the prefix that its keys share; scripts that find a name only while
they run take that. Namespaces hold no colon and names neither, so the parts of a key never run into each other.
One Redis server is meant, not Redis Cluster: scripts touch keys of several slots.
"""

from __future__ import annotations

SCHEMA_VERSION = "1"
GROUP = "controllers"  # the stream's consumer group; a consumer is a controller id
_PREFIX = f"fallow:{SCHEMA_VERSION}:"


def schema() -> str:
    """STRING: the schema version of this database. Whoever opens first. No TTL.

    Outside the version's prefix, or no other version could find it.
    """
    return "fallow:schema"


# Keys of tenants.


def identity(uuid: str) -> str:
    """HASH namespace, subject, rights, salt, hash of one key. put_key. No TTL."""
    return f"{_PREFIX}identity:{uuid}"


def identities() -> str:
    """SET of the uuids that have an `identity`. put_key, delete_key. No TTL."""
    return f"{_PREFIX}identities"


def limits(namespace: str) -> str:
    """HASH of the limits set for a namespace, by name; for others the default holds. put_limits. No TTL."""
    return f"{_PREFIX}limits:{namespace}"


# Entities and code.


def entities(namespace: str) -> str:
    """HASH name to collection, as actions, packages, triggers, rules share one name space. Put and delete. No TTL."""
    return f"{_PREFIX}entities:{namespace}"


def action(namespace: str, name: str) -> str:
    """HASH doc, revision, digest of one action. put_action. No TTL."""
    return f"{_PREFIX}action:{namespace}:{name}"


def actions(namespace: str) -> str:
    """ZSET of action names by time of update (Unix ms). put_action, delete_action. No TTL."""
    return f"{_PREFIX}actions:{namespace}"


def actions_of(namespace: str, package: str) -> str:
    """ZSET of the names ("package/action") of a package's actions by time of update. put_action, delete_action. No TTL.

    A package that has any cannot be deleted. Names hold no slash, so this cannot be another package's.
    """
    return f"{_PREFIX}actions-of:{namespace}:{package}"


def entity(collection: str, namespace: str, name: str) -> str:
    """HASH doc, revision of one package, trigger or rule. put_entity. No TTL."""
    return f"{_PREFIX}{collection}:{namespace}:{name}"


def names(collection: str, namespace: str) -> str:
    """ZSET of the names of a namespace's packages, triggers or rules by time of update. put_entity, delete_entity."""
    return f"{_PREFIX}{collection}-of:{namespace}"


def code(digest: str) -> str:
    """STRING: the code with this sha256. put_action. TTL 1 h once no action uses it, as accepted calls still may."""
    return f"{_PREFIX}code:{digest}"


def code_users(digest: str) -> str:
    """SET of "namespace/name" whose current revision uses this code. put_action, delete_action. No TTL."""
    return f"{_PREFIX}code-users:{digest}"


def changes() -> str:
    """Channel: "number collection namespace/name" of every entity, key or limit that was put or deleted."""
    return f"{_PREFIX}changes"


def change_number() -> str:
    """STRING: the number of the last change. Put and delete. No TTL."""
    return f"{_PREFIX}change-number"


def alarms() -> str:
    """HASH "namespace/trigger" to the alarm of that trigger. The write_alarm script. No TTL."""
    return f"{_PREFIX}alarms"


def alarms_due() -> str:
    """ZSET of those that will be due, by when (Unix ms). write_alarm; claim_alarms puts off what it takes. No TTL."""
    return f"{_PREFIX}alarms-due"


# Activations.


def record(activation_id: str) -> str:
    """HASH m ("size:namespace:name"), d (document), r (result), l (log lines, if any) of one final record.

    The record script; `trim` removes it. No TTL.
    """
    return f"{_PREFIX}record:{activation_id}"


def records(namespace: str) -> str:
    """ZSET of activation ids by start (Unix ms). The record script, trim. No TTL."""
    return f"{_PREFIX}records:{namespace}"


def records_of(namespace: str, name: str) -> str:
    """ZSET of the activation ids of one action by start (Unix ms). The record script, trim. No TTL."""
    return f"{_PREFIX}records-of:{namespace}:{name}"


def retention() -> str:
    """ZSET of all recorded activation ids by end (Unix ms), the order in which they go. Record script, trim. No TTL."""
    return f"{_PREFIX}retention"


def run(activation_id: str) -> str:
    """HASH fence, owner (the controller that raised it), entry (stream id), bytes (of the entry) of one activation.

    The accept, fence, record and trim scripts. No TTL while the entry stands; else 1 day after the last change of a
    raised fence, and 10 minutes where `trim` removed a young record.
    """
    return f"{_PREFIX}run:{activation_id}"


def usage() -> str:
    """HASH records, record_bytes, entry_bytes: exact counters. The accept, record and trim scripts. No TTL."""
    return f"{_PREFIX}usage"


def stream() -> str:
    """STREAM of accepted calls: id (activation), e (entry). Accept script; the record script removes. No TTL."""
    return f"{_PREFIX}stream"


# Who is there.


def lease(controller_id: str) -> str:
    """STRING: a live controller's lease. renew_lease. TTL: the lease."""
    return f"{_PREFIX}lease:{controller_id}"


def leases() -> str:
    """SET of controller ids that have or had a `lease`. renew_lease; live_controllers removes the lapsed. No TTL."""
    return f"{_PREFIX}leases"


def seen() -> str:
    """HASH controller id to the number of the last change it has seen. note_seen; goes as in `leases`. No TTL."""
    return f"{_PREFIX}seen"


def role(name: str) -> str:
    """STRING: who holds a role that only one process may have. hold. TTL: as the holder said."""
    return f"{_PREFIX}role:{name}"
