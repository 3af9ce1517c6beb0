"""Unpacks an action's zip: plain files, inside its folder, of bounded size."""

from __future__ import annotations

import io
import os

from functions.runtimes.python.wire import RequestError

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    import zipfile

UNPACKED_LIMIT_BYTES = 512 << 20
UNPACKED_LIMIT_FILES = 20_000


def unpack_zip(encoded: str, folder: str) -> str:
    """Unpack a base64 zip into `folder`; returns its `__main__.py`.

    Raises RequestError, with what is wrong, for anything but plain files inside the folder and within the limits.
    """
    import binascii
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(binascii.a2b_base64(encoded))) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.startswith("virtualenv/")]
            check_entries(entries)
            for entry in entries:
                path = os.path.join(folder, entry.filename)
                if entry.is_dir():
                    os.makedirs(path, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(entry) as source, open(path, "wb") as target:
                    while chunk := source.read(1 << 20):  # zipfile ends at the checked size, whatever is packed
                        target.write(chunk)
                os.chmod(path, 0o600 | (entry.external_attr >> 16 & 0o111))
    except (binascii.Error, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RequestError(502, f"The action's code is not a base64 zip: {error}") from error
    except (OSError, NotImplementedError, RuntimeError, ValueError) as error:  # names that collide, encryption, methods
        raise RequestError(502, f"The action's zip cannot be unpacked: {error}") from error
    main_file = os.path.join(folder, "__main__.py")
    if not os.path.isfile(main_file):
        raise RequestError(502, "The action's zip has no __main__.py at its top.")
    return main_file


def check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse a zip that would write outside of its folder, make links or devices, or be of absurd size."""
    if len(entries) > UNPACKED_LIMIT_FILES:
        raise RequestError(502, f"The action's zip has more than {UNPACKED_LIMIT_FILES} files.")
    if sum(entry.file_size for entry in entries) > UNPACKED_LIMIT_BYTES:
        raise RequestError(502, f"The action's zip unpacks to more than {UNPACKED_LIMIT_BYTES >> 20} MiB.")
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise RequestError(502, f"The action's zip has a path that leaves its folder: {name!r}")
        if entry.external_attr >> 28 not in (0, 0o4, 0o10):  # file type bits: none given, directory, regular file
            raise RequestError(502, f"The action's zip has an entry that is neither file nor folder: {name!r}")
