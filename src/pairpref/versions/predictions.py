"""Temporary: the names of the contract over `evidence`."""

from pairpref.versions.evidence import gather as collect_predictions  # noqa: F401
