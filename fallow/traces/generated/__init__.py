"""Traces drawn from the published distributions, and how near they come to them. The only importer of numpy here."""
