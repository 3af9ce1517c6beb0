"""A VM as a service of compose or Swarm: `python -m harvest_agent.service`, one life after the other.

The process is the entry of its container. An eviction ends the invoker and all containers of the VM; the service stays
and comes back, under another id, when its plan says so. `--health` is the health check.
"""
