"""Temporary: the names of the contract."""

from pairpref.versions.standing import Standing as VersionResults  # noqa: F401
from pairpref.versions.standing import stand as results  # noqa: F401
