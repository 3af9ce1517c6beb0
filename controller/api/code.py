"""The code of an action as it is deployed: which runtime, whether it is an archive, whether that is safe to unpack."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from controller.api.errors import malformed, runtime_gone

DEFAULT_PYTHON = "python:3"
BLACKBOX = "blackbox"  # the kind whose container is an image of the user's
MAX_UNPACKED_BYTES = 512 << 20  # an archive that unpacks to more is taken for a bomb
MAX_MEMBERS = 20_000
_BASE64_ZIP = "UEsD"  # PK and the third byte of a zip's first entry
_BASE64 = re.compile(r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What is stored of it. `content` is the text as the client sent it: base64 for an archive."""

    kind: str
    binary: bool
    content: bytes
    digest: str


def default_kind(family: str, offered: Iterable[str]) -> str | None:
    """What `family:default` means where these kinds are offered: of other families than Python's the highest version
    that is a number. None = nothing."""
    if family == "python":
        return DEFAULT_PYTHON
    versions = (kind.removeprefix(f"{family}:") for kind in offered if kind.startswith(f"{family}:"))
    highest = max((int(version) for version in versions if version.isdecimal()), default=None)
    return f"{family}:{highest}" if highest is not None else None


def default_of(family: str, *, live: Iterable[str], offered: Iterable[str]) -> str | None:
    """The same among the kinds of `live` VMs if one is of the family, else among all that were ever `offered`."""
    return default_kind(family, live) or default_kind(family, offered)


def resolve_kind(
    kind: str, *, live: Collection[str], offered: Collection[str], deprecated: Collection[str] = ()
) -> str:
    """The concrete kind of what a client named: families and `:default` mean the default of the family, among the kinds
    of `live` VMs if they have one, else among all that were ever `offered`.

    Raises ApiError 400 that lists the kinds offered, or says that the kind is among the `deprecated` ones.
    """
    if kind in deprecated:
        raise runtime_gone(kind)
    live, offered = (tuple(name for name in names if name not in deprecated) for names in (live, offered))
    family, _, version = kind.partition(":")
    resolved: str | None = kind
    if version in ("", "default") and kind != BLACKBOX:
        resolved = default_of(family, live=live, offered=offered)
    known = {DEFAULT_PYTHON, *offered}.difference(deprecated)
    if resolved not in known:
        names = ", ".join(f"'{name}'" for name in sorted(known))
        text = f"The specified runtime '{kind}' is not supported by this platform. Valid values are: {names}."
        raise malformed(text)
    return resolved


def read_code(kind: str, text: str) -> Code:
    """Checks the code of a kind already resolved. Costs time in its size: not for the event loop when it is large.

    Text that is base64 as a whole is an archive, as in OpenWhisk; for a blackbox it may be any file, or there is no
    code: it is in the image. Raises ApiError 400 for an archive that is corrupt or would write outside its folder.
    """
    if kind == BLACKBOX and not text.strip():
        return Code(kind=kind, binary=False, content=b"", digest="")
    if not text.strip():
        raise malformed(f"'code' must be a string defined in 'exec' for '{kind}' actions, and not empty.")
    stripped = text.strip()
    binary = len(stripped) % 4 == 0 and _BASE64.match(stripped) is not None
    if binary and (kind != BLACKBOX or stripped.startswith(_BASE64_ZIP)):
        _check_archive(stripped)
    try:
        content = (stripped if binary else text).encode("utf-8")
    except UnicodeEncodeError:
        raise malformed("The code holds characters that are not valid Unicode.") from None
    return Code(kind=kind, binary=binary, content=content, digest=hashlib.sha256(content).hexdigest())


def _check_archive(text: str) -> None:
    try:
        raw = base64.b64decode(text, validate=True)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            _check_members(archive)
            broken = archive.testzip()
    except (binascii.Error, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as e:
        raise malformed(f"The code is not a valid zip archive: {e}.") from None
    if broken is not None:
        raise malformed(f"The code is not a valid zip archive: '{broken}' is corrupt.")


def _check_members(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
        text = f"The zip archive is too large when unpacked: {len(members)} files, {size} bytes"
        raise malformed(f"{text}; allowed are {MAX_MEMBERS} files and {MAX_UNPACKED_BYTES} bytes.")
    for member in members:
        parts = member.orig_filename.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or ":" in parts[0] or "\0" in member.orig_filename:
            raise malformed(f"The zip archive holds a path that leads out of its folder: {member.orig_filename!r}.")
        mode = stat.S_IFMT(member.external_attr >> 16)
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise malformed(f"The zip archive holds a link or special file: {member.orig_filename!r}.")
