"""The container's HTTP/1.1: one connection, one request at a time, Content-Length both ways."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    import _socket

HEAD_LIMIT_BYTES = 65_536
BODY_LIMIT_BYTES = 192 << 20  # 48 MiB of code are 64 MiB in base64
NO_SENTINELS = (
    b"\r\nx-fallow-sentinels: none\r\n"  # a client that reads the log up to the answer asks for no ends of it
)
STATUS_TEXT = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 411: "Length Required"}


class RequestError(Exception):
    """The answer to a request is this status and text, other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def content_length(lower: bytes) -> int:
    """Of a request's head in lower case; 0 without a body. Raises RequestError where it does not say."""
    start = lower.find(b"\r\ncontent-length:")
    if start < 0:
        if b"\r\ntransfer-encoding:" in lower or lower.startswith(b"post"):
            raise RequestError(411, "Content-Length is required.")
        return 0
    text = lower[start + 17 :].split(b"\r\n", 1)[0].strip()
    if not text.isdigit():
        raise RequestError(400, "Content-Length is not a number.")
    length = int(text[:20])
    if length > BODY_LIMIT_BYTES:
        raise RequestError(413, f"The request is larger than {BODY_LIMIT_BYTES >> 20} MiB.")
    return length


class Connection:
    """`sentinels` is what the last request asked for: False = the answer itself says that the log is complete."""

    def __init__(self, conn: _socket.socket) -> None:
        self._conn = conn
        self._rest = b""
        self.sentinels = True

    def read(self) -> tuple[bytes, bytes | bytearray] | None:
        """The next request as ("METHOD /path", body), None at the end. Raises RequestError: answer it and close."""
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_LIMIT_BYTES:
                raise RequestError(431, "The request's head is too large.")
            chunk = self._conn.recv(HEAD_LIMIT_BYTES)
            if not chunk:
                return None
            data += chunk
        head = data[: end + 2]
        lower = head.lower()
        self.sentinels = NO_SENTINELS not in lower
        length = content_length(lower)
        target = b" ".join(head.split(b" ", 2)[:2])
        after = end + 4 + length
        self._rest = data[after:]
        if len(data) >= after:
            return target, data[end + 4 : after]
        body = bytearray(length)
        have = len(data) - end - 4
        body[:have] = data[end + 4 :]
        with memoryview(body) as view:
            while have < length:
                count = self._conn.recv_into(view[have:])
                if not count:
                    return None
                have += count
        return target, body

    def send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} {STATUS_TEXT.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        if not self.sentinels:
            head += "X-Fallow-Logs: complete\r\n"
        self._conn.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
