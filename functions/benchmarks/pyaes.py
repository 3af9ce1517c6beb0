"""pyaes: encrypts a random message with AES in counter mode, decrypts it again, and compares; AES in pure Python.

Arguments: `length` (bytes, default 50,000), `iterations` (default 1; each has a key of its own), `key_bits` (128, 192
or 256; default 128), `seed`. Answers with how many round trips gave the message back, and the SHA-256 of the
ciphertexts.
"""

from __future__ import annotations

import hashlib
import random
import time

import pyaes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEY_BITS = (128, 192, 256)


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def crypt(key: bytes, counter: int, data: bytes) -> bytes:
    """AES-CTR of `data`, whose first counter block is `counter` (128 bits, big-endian); its own inverse."""
    cipher = pyaes.AESModeOfOperationCTR(key, counter=pyaes.Counter(initial_value=counter))
    return bytes(cipher.encrypt(data))


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        length = whole(args, "length", 50_000, 1, 1_000_000)
        iterations = whole(args, "iterations", 1, 1, 10_000)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        key_bits = whole(args, "key_bits", KEY_BITS[0], KEY_BITS[0], KEY_BITS[-1])
        if key_bits not in KEY_BITS:
            raise ValueError(f"key_bits is {key_bits}; give 128, 192 or 256")
    except ValueError as error:
        return {"error": f"pyaes: {error}"}
    rng = random.Random(seed)
    message = rng.randbytes(length)
    digest = hashlib.sha256()
    round_trips = 0
    began_s = time.perf_counter()
    for _ in range(iterations):
        key, counter = rng.randbytes(key_bits // 8), rng.getrandbits(64)
        hidden = crypt(key, counter, message)
        digest.update(hidden)
        round_trips += crypt(key, counter, hidden) == message
    return {
        "length": length,
        "iterations": iterations,
        "key_bits": key_bits,
        "round_trips": round_trips,
        "ciphertext_sha256": digest.hexdigest(),
        "crypt_ms": (time.perf_counter() - began_s) * 1e3,
    }
