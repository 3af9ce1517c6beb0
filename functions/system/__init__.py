"""What every cluster has in its namespace whisk.system: sources of actions, and a manifest of its packages."""
