"""Fallow: a serverless platform for capacity that would otherwise lie fallow."""

__version__ = "0.1.0"
