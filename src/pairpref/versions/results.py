"""Temporary: the names of the contract over `standing`."""

from pathlib import Path
from typing import Self

import pandas as pd

from pairpref.versions.catalog import Catalog
from pairpref.versions.standing import Standing, stand


class VersionResults(Standing):
    @classmethod
    def load(cls, catalog: Catalog, run: pd.DataFrame | None = None, root: Path = Path()) -> Self:
        return cls(**vars(stand(catalog, run, root)))
