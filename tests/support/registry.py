"""An image registry on loopback with one small image in it, as the engine pulls from one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

from aiohttp import web

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Any repository name has the image, with the tag "latest" alone. Its only file is no program: a container of it
    cannot start, which tells a pull that worked from one that did not. `salt` makes the image unlike any other."""

    def __init__(self, salt: str) -> None:
        self.pulls: list[str] = []  # what was asked for, by tag
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            entry = tarfile.TarInfo("salt")
            entry.size = len(salt)
            tar.addfile(entry, io.BytesIO(salt.encode()))
        packed = gzip.compress(layer.getvalue(), mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/salt"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
            }
        ).encode()
        self._blobs = {_digest(data): data for data in (packed, config)}
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _blob("application/vnd.docker.container.image.v1+json", config),
                "layers": [_blob("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
            }
        ).encode()
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Returns host:port."""
        app = web.Application()
        app.router.add_get("/v2/", self._serve_version)
        app.router.add_get("/v2/{name:.+}/manifests/{reference}", self._serve_manifest)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._serve_blob)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def _serve_version(self, _: web.Request) -> web.Response:
        return _answer(b"{}", "application/json")

    async def _serve_manifest(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        if reference not in ("latest", _digest(self._manifest)):
            body = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return web.json_response(body, status=404)
        if request.method == "GET":
            self.pulls.append(reference)
        return _answer(self._manifest, MANIFEST, {"Docker-Content-Digest": _digest(self._manifest)})

    async def _serve_blob(self, request: web.Request) -> web.Response:
        return _answer(self._blobs[request.match_info["digest"]], "application/octet-stream")

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def _blob(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


def _answer(body: bytes, kind: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": kind, **(headers or {})})
