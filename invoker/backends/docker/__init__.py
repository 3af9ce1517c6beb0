"""Containers of a Docker Engine, one per function container, inside the VM's cgroup."""

from invoker.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
