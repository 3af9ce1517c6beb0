"""The paths of the API's document that are the operator's."""

from __future__ import annotations

from controller.api.openapi.operations import OPERATOR, Operation, Path, operation, told
from controller.api.openapi.schemas import OBJECT, TEXT, WHOLE, Schema, array, record, ref


def operator_paths() -> dict[str, Path]:
    """Path to method to operation."""
    admin = "/admin/v1"
    return {
        f"{admin}/status": _get("getStatus", "Counters of this controller", OBJECT),
        f"{admin}/vms": _get("listVms", "The VMs", record(vms=array(OBJECT), controllers=WHOLE)),
        f"{admin}/vms/{{vm}}/resize": _command("resize", "Resize", "Change a VM's cores"),
        f"{admin}/vms/{{vm}}/evict": _command("evict", "Evict", "Evict a VM, after a notice"),
        f"{admin}/vms/{{vm}}/withdraw": _command("withdraw", "", "Take back the notice of a VM's eviction"),
        f"{admin}/why/{{activationId}}": _get(
            "getAnyStory", "Why an activation ran where it ran", ref("Story"), "400 401 404 503", "activationId"
        ),
        f"{admin}/keys": {
            **_get("listKeys", "Keys, without their secrets", ref("Keys")),
            "put": _write("putKey", "Grant a key that is given", "Key", "KeyGiven"),
            "post": _write("makeKey", "Make a random key", "NewKey", "KeyWanted"),
        },
        f"{admin}/keys/{{uuid}}": {
            "delete": _write("revokeKey", "Revoke a key", "Revoked", "", "400 401 404 503", "uuid")
        },
        f"{admin}/limits/{{namespace}}": {
            **_get("getQuotas", "What a namespace may call", ref("Quotas"), "400 401 503", "namespace"),
            "put": _write("putQuotas", "Set limits of a namespace", "Quotas", "QuotasGiven", where="namespace"),
            "delete": _write("deleteQuotas", "Set none", "Quotas", "", "400 401 503", "namespace"),
        },
        "/invokers": _get("listInvokers", "The VMs as OpenWhisk lists invokers", ref("Invokers"), "401"),
        "/metrics": {
            "get": operation(
                "getMetrics",
                "operator",
                "Metrics for Prometheus",
                {200: told("Prometheus' text format.", TEXT, media="text/plain")},
                "401",
                security=OPERATOR,
            )
        },
        "/disable": {
            "post": operation(
                "disable",
                "operator",
                "Have this controller take no more calls",
                {200: told("It takes none.", TEXT, media="text/plain")},
                "401",
                security=OPERATOR,
            )
        },
    }


def _get(name: str, summary: str, schema: Schema, refused: str = "401 503", *where: str) -> Path:
    answers = {200: told(f"{summary}.", schema)}
    return {"get": operation(name, "operator", summary, answers, refused, parameters=where, security=OPERATOR)}


def _write(
    name: str, summary: str, answer: str, body: str, refused: str = "400 401 413 415 503", where: str = ""
) -> Operation:
    parameters = [where] if where else []
    answers = {200: told(f"{summary}.", ref(answer))}
    return operation(name, "operator", summary, answers, refused, parameters=parameters, body=body, security=OPERATOR)


def _command(verb: str, body: str, summary: str) -> Path:
    return {
        "post": operation(
            f"{verb}Vm",
            "operator",
            summary,
            {200: told("It is done.", ref("Done"))},
            "400 401 404 409 413 415 503",
            parameters=["vm"],
            body=body,
            needs_body=verb == "resize",
            security=OPERATOR,
        )
    }
