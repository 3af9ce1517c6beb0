"""The real Docker Engine of this machine, for tests: an image of a small runtime, and what is left on the engine."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from fallow.infra.engine import CLUSTER_LABEL, KINDS_LABEL

BASE_IMAGES = ("fallow-standin:bookworm", "python:3.12-slim")  # the first that is there; the last one may be pulled
KINDS = ("python:3", "python:3.11")
_SERVER = Path(__file__).parent / "runtime_image" / "server.py"


@contextmanager
def engine_client() -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=60)
    try:
        yield client
    finally:
        client.close()


def _base(client: docker.APIClient) -> str:
    there = {tag for image in client.images() for tag in image["RepoTags"] or ()}
    return next((name for name in BASE_IMAGES if name in there), BASE_IMAGES[-1])


@functools.cache
def runtime_image(
    *, kinds: bool = True, sentinels: bool = True, http: str = "1.1", command: str = '["python3", "/server.py"]'
) -> str:
    """The name of an image of `runtime_image/server.py`, built where it is not. `kinds` = it says that it is one of
    the platform's own runtimes, else it is a blackbox."""
    digest = hashlib.sha256(f"{kinds} {sentinels} {http} {command}".encode() + _SERVER.read_bytes()).hexdigest()
    name = f"fallow-test/runtime:{digest[:12]}"
    with engine_client() as client:
        lines = [
            f"FROM {_base(client)}",
            "COPY server.py /server.py",
            f"ENV SENTINELS={int(sentinels)} HTTP={http} PYTHONDONTWRITEBYTECODE=1",
            *([f'LABEL {KINDS_LABEL}="{",".join(KINDS)}"', "USER 65534:65534"] if kinds else []),
            f"CMD {command}",
        ]
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for file, data in (("Dockerfile", "\n".join(lines).encode()), ("server.py", _SERVER.read_bytes())):
                entry = tarfile.TarInfo(file)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        context.seek(0)
        said = list(client.build(fileobj=context, custom_context=True, tag=name, rm=True, decode=True))
        assert not any("error" in line for line in said), said
    return name


def containers_of(cluster: str) -> list[dict[str, object]]:
    """All containers with the label of a cluster, ended ones too."""
    with engine_client() as client:
        found: list[dict[str, object]] = client.containers(all=True, filters={"label": [f"{CLUSTER_LABEL}={cluster}"]})
        return found
