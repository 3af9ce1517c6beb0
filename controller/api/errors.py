"""What the API says when it refuses: one exception, and the texts that clients of OpenWhisk know."""

from __future__ import annotations

from collections.abc import Mapping

NOT_FOUND = "The requested resource does not exist."
NO_AUTH = "The resource requires authentication, which was not supplied with the request"
BAD_AUTH = "The supplied authentication is invalid"
NOT_JSON = "The request's Content-Type is not supported. Expected:\napplication/json"
COMPRESSED = "The request's Content-Encoding is not supported: send the body as it is."
TOO_DEEP = "The JSON text is nested too deeply."
STORE_AWAY = "The platform's store is not reachable right now. Try again shortly."
STOPPING = "This controller is shutting down. Try again shortly."
AUTH_CHALLENGE = {"WWW-Authenticate": 'Basic realm="OpenWhisk secure realm"'}


class ApiError(Exception):
    """A refused request: HTTP status, a text for people, extra headers. The request door makes an answer of it."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def malformed(text: str) -> ApiError:
    """400 for a body, in the words of OpenWhisk's server."""
    return ApiError(400, f"The request content was malformed:\n{text}")


def bad_parameter(name: str, text: str) -> ApiError:
    """400 for a query parameter, in the words of OpenWhisk's server."""
    return ApiError(400, f"The query parameter '{name}' was malformed:\n{text}")


def not_found(resource: str = "") -> ApiError:
    """`resource`: "namespace/name", where clients are to hear which of several was not found."""
    return ApiError(404, f"The requested resource '{resource}' does not exist." if resource else NOT_FOUND)


def forbidden(resource: str) -> ApiError:
    """403. `resource`: "namespace[/name]"."""
    return ApiError(403, f"The supplied authentication is not authorized to access '{resource}'.")


def runtime_gone(kind: str) -> ApiError:
    """400 for an action of a deprecated kind."""
    text = f"The '{kind}' runtime is no longer supported. You may read and delete but not update or invoke this action."
    return ApiError(400, text)


def not_allowed(*methods: str) -> ApiError:
    names = ", ".join(methods)
    return ApiError(405, f"HTTP method not allowed, supported methods: {names}", {"Allow": names})


def too_large(what: str, found: int, bound: int) -> ApiError:
    """413: `what` is "Request", "exec", "parameters" or "annotations"; sizes in bytes."""
    return ApiError(413, f"{what} larger than allowed: {found} > {bound} bytes.")


def unavailable(text: str, retry_after_s: float = 1.0) -> ApiError:
    return ApiError(503, text, retry_after(retry_after_s))


def throttled(text: str, retry_after_s: float = 1.0) -> ApiError:
    return ApiError(429, text, retry_after(retry_after_s))


def retry_after(delay_s: float) -> dict[str, str]:
    """The header counts whole seconds; at least one, so that no client spins."""
    return {"Retry-After": str(max(1, round(delay_s)))}
