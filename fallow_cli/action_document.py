"""What `fallow action create` and `update` send: an action's document from a file, an image, a sequence or a copy."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fallow_cli.entities import full_name, key_values
from fallow_cli.errors import CliError

KIND_OF_SUFFIX = {".py": "python:default"} | dict.fromkeys((".js", ".cjs", ".mjs"), "nodejs:default")
BLACKBOX = "blackbox"
WEB_MODES = ("true", "yes", "raw", "false", "no")
SECURE = "require-whisk-auth"
_LIMITS = {"timeout": "timeout", "memory": "memory", "logs": "logsize", "concurrency": "concurrency"}


def definition(
    *,
    file: Path | None,
    kind: str | None,
    main: str | None,
    image: str | None = None,
    sequence: str | None = None,
    web: str | None = None,
    web_secure: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The document to PUT: only what was given. Raises CliError for what cannot be read, or contradicts itself."""
    document: dict[str, Any] = {}
    if sequence is not None:
        if file is not None or image is not None or kind is not None or main is not None:
            raise CliError("a sequence runs other actions\ngive --sequence without FILE, --docker, --kind and --main")
        names = [name.strip() for name in sequence.split(",")]
        document["exec"] = {"kind": "sequence", "components": [full_name(name, "action") for name in names]}
    elif image is not None:
        if kind not in (None, BLACKBOX):
            raise CliError(f"--docker and --kind {kind} contradict each other\ngive one of them")
        code = {} if file is None else _exec(file, BLACKBOX, main)
        document["exec"] = {"kind": BLACKBOX, "image": image, **code} | ({"main": main} if main else {})
    elif file is not None:
        document["exec"] = _exec(file, kind, main)
    limits = {key: options[name] for key, name in _LIMITS.items() if options[name] is not None}
    if limits:
        document["limits"] = limits
    if options["param"]:
        document["parameters"] = key_values(options["param"])
    annotations = {**(options["annotation"] or {}), **web_annotations(web, web_secure)}
    if annotations:
        document["annotations"] = key_values(annotations)
    return document


def web_annotations(web: str | None, secure: str | None) -> dict[str, Any]:
    """What makes an action callable from the web, or no longer so; `secure` "true" stands for a secret made here."""
    annotations: dict[str, Any] = {}
    if web is not None:
        exported = web not in ("false", "no")
        annotations |= {"web-export": exported, "raw-http": web == "raw", "final": exported}
    if secure is not None:
        made = {"true": lambda: secrets.randbelow(1 << 53), "false": lambda: False}
        annotations[SECURE] = made.get(secure, lambda: secure)()
    return annotations


def copied(source: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a new action like `source`, with what was given in `document` instead or in addition."""
    annotations = {item["key"]: item["value"] for item in [*source["annotations"], *document.get("annotations", [])]}
    annotations.pop("exec", None)
    return {
        "exec": {key: value for key, value in source["exec"].items() if key != "binary"},
        "parameters": document.get("parameters", source["parameters"]),
        "annotations": key_values(annotations),
        "limits": {**source["limits"], **document.get("limits", {})},
    }


def _exec(file: Path, kind: str | None, main: str | None) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except OSError as e:
        raise CliError(f"cannot read {file}: {e.strerror}") from None
    chosen = kind or KIND_OF_SUFFIX.get(file.suffix)
    if chosen is None:
        names = "--kind python:default or --kind nodejs:default"
        raise CliError(f"cannot tell the runtime of {file.name}\nname one, such as {names}")
    if raw[:4] == b"PK\x03\x04":
        code = base64.b64encode(raw).decode()
    else:
        try:
            code = raw.decode()
        except UnicodeDecodeError:
            raise CliError(f"{file} is neither text in UTF-8 nor a zip") from None
    return {"kind": chosen, "code": code} | ({"main": main} if main else {})
