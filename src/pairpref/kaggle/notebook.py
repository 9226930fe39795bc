"""predict.ipynb: what a Kaggle notebook without internet runs beside an attached bundle.

It is the same for every bundle, so that `verify` can refuse one that somebody else wrote.
"""

import json

_ABOUT = """\
# A submission from a pairpref bundle

Attach the bundle and the competition's data (*Add Input*), choose the accelerator *GPU T4 x2*,
switch the internet off and run all cells. The result is `submission.csv`.
"""

_FIND = """\
import os
import subprocess
import sys
from pathlib import Path

INPUT = Path("../input")  # /kaggle/input, seen from /kaggle/working


def only(found, what):
    if len(found) != 1:
        names = ", ".join(map(str, found)) or "none"
        raise SystemExit(f"expected one {what} below {INPUT.resolve()}, found {names}")
    return found[0]


def run(*command):
    \"\"\"Run Python, show its lines as they come, and stop the notebook if it fails.\"\"\"
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, *map(str, command)], **piped) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"stopped with code {process.returncode}: see the lines above")


BUNDLE = only([path.parent for path in INPUT.rglob("sample.json")], "bundle")
TEST = only(list(INPUT.rglob("test.csv")), "test.csv")
print(BUNDLE, TEST, sep="\\n")"""

_INSTALL = """\
# Only what the image lacks, from the bundle's own wheels.
if (BUNDLE / "wheels").exists():
    offline = "--no-index --quiet --no-warn-conflicts --disable-pip-version-check".split()
    run("-m", "pip", "install", *offline, "--find-links", BUNDLE / "wheels", "pairpref")"""

_GPU = """\
# A P100 is older than what some builds of torch can use.
trial = "import torch; torch.ones(8, 8, device='cuda').mm(torch.ones(8, 8, device='cuda')).cpu()"
tried = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True)
if tried.returncode:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    reason = (tried.stderr.strip() or "no reason given").splitlines()[-1]
    print(f"no GPU that this torch can use, so the CPU predicts: {reason}")"""

_VERIFY = """\
os.environ["HF_HUB_OFFLINE"] = "1"
run("-m", "pairpref.kaggle", "verify", BUNDLE)"""

_PREDICT = """\
# Rows that can't be read get the shares of A, B and tie, however many they are.
to = ["--output", "submission.csv", "--bundle", BUNDLE / "models", "--keep-going"]
run("-m", "pairpref.predict", "--input", TEST, *to)"""

_SHOW = 'print(*Path("submission.csv").read_text().splitlines()[:5], sep="\\n")'


def text() -> str:
    """The notebook as JSON, nbformat 4.5."""
    code = (_FIND, _INSTALL, _GPU, _VERIFY, _PREDICT, _SHOW)
    cells = [{"cell_type": "markdown", "id": "about", "metadata": {}, "source": _ABOUT}]
    for number, source in enumerate(code):
        filled = {"metadata": {}, "execution_count": None, "outputs": [], "source": source}
        cells.append({"cell_type": "code", "id": f"cell-{number}", **filled})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": cells}
    return json.dumps(notebook, indent=1) + "\n"
