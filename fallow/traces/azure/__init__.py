"""Readers of the published Azure Functions traces."""
