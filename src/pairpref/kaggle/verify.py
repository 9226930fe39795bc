"""pairpref bundle verify: every file is as it was made, and the models predict what they did."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pairpref.errors import UserError
from pairpref.kaggle import manifest, sample
from pairpref.text.published import one_line

_CLOSE, _NEAR = 1e-6, 1e-4


def verify(folder: Path, say: Callable[[str], object] = print) -> None:
    """Check a bundle. Nothing in it is run, and nothing is loaded before all files are checked.

    Raises:
        UserError: it is not what was made; a line for each fault.
    """
    about = manifest.read(folder)
    faults = list(manifest.faults(folder, about))
    path = folder / manifest.NOTEBOOK
    if not faults and path.read_bytes() != manifest.notebook():
        faults.append(
            f"{manifest.NOTEBOOK!r} is code that this version did not write: make the bundle again"
        )
    if faults:
        raise UserError("\n".join(faults))
    say(f"{folder}: {len(about['files'])} files as they were made")
    pairs, stored = sample.read(folder / manifest.SAMPLE)
    try:
        p = sample.predicted(sample.judge(folder / manifest.MODELS), pairs)
    except UserError:
        raise
    except Exception as error:  # files of somebody else's making may raise anything in a library
        raise UserError(f"{folder}: the sample can't be predicted ({one_line(error)}).") from None
    from pairpref.model.precision import best_device  # with torch, which is loaded by now

    most = _CLOSE if best_device().type == about.get("device") and not about.get("half") else _NEAR
    apart = float(np.abs(p - stored).max()) if p.shape == stored.shape else np.inf
    if not apart <= most:
        raise UserError(
            f"{folder}: the sample's probabilities differ by up to {apart:.1e} from those stored, "
            f"more than {most:.0e}. Other versions of packages than in provenance.json compute so."
        )
    say(f"the sample's {len(pairs)} rows are predicted as when it was made (within {most:.0e})")
