"""wheels/ of a bundle: this package and what it needs beside what a notebook's image has.

pip chooses each wheel for the target. It is asked level by level, without dependencies of its own:
what the image has in a version that fits, such as torch, is not even looked up.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pairpref.errors import UserError

PYTHON = "3.12"  # of the image in image.txt
# An image of glibc 2.35, Ubuntu 22.04. pip adds those before manylinux2014 itself.
PLATFORMS = (*(f"manylinux_2_{i}_x86_64" for i in range(35, 17, -1)), "manylinux2014_x86_64")

Versions = Mapping[str, Version]  # by canonical name


@dataclass(frozen=True)
class Target:
    """Where the wheels will be installed."""

    python: str = PYTHON
    platforms: tuple[str, ...] = PLATFORMS

    def environment(self) -> dict[str, str]:
        """What markers of requirements ask about, where it is not as here."""
        machine = re.sub(r"^.*?(x86_64|aarch64|i686|arm64)$", r"\1", self.platforms[0])
        return {
            "os_name": "posix",
            "platform_machine": machine,
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def image(path: Path | None) -> dict[str, Version]:
    """Packages by name from a `pip freeze`; by default those of the list in this package.

    Raises:
        UserError: the file can't be read, or lists nothing.
    """
    try:
        listed = path or files("pairpref.kaggle") / "image.txt"
        lines = listed.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--image {path}: not readable ({error}). Give what pip freeze prints."
        ) from None
    found: dict[str, Version] = {}
    for name, _, version in (line.partition("==") for line in lines if not line.startswith("#")):
        try:
            found[canonicalize_name(name.strip())] = Version(version)
        except InvalidVersion:
            continue  # installed from a file or a repository: its version is not known
    if not found:
        raise UserError(f"--image {path}: no line like numpy==2.4.6. Give what pip freeze prints.")
    return found


def gather(folder: Path, root: Path, target: Target, has: Versions) -> list[Path]:
    """Fill a new folder with wheels; this package's first.

    Args:
        root: the repository.
        has: what the image has.

    Raises:
        UserError: root holds no source to build from, pip can't get a wheel, or two wheels need
            different versions of a third.
    """
    own = build(root, folder)
    pins = root / "constraints.txt"
    constraints = ("-c", str(pins)) if pins.exists() else ()
    options = [option for platform in target.platforms for option in ("--platform", platform)]
    options += ["--python-version", target.python, "--only-binary=:all:", *constraints]

    def download(wanted: Iterable[str]) -> None:
        _pip("download", "--no-deps", "--dest", str(folder), *options, *wanted)

    return [own, *closure(own, folder, target, has, download)]


def build(root: Path, folder: Path) -> Path:
    """Build this package's wheel, from a copy: the build leaves files beside its source."""
    try:
        with TemporaryDirectory() as copy:
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(root / "src", Path(copy) / "src", ignore=ignore)
            for name in ("pyproject.toml", "README.md"):
                shutil.copy(root / name, copy)
            _pip("wheel", "--no-deps", "--wheel-dir", str(folder), copy)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: missing, and this package's wheel is built from it. Run the "
            "package of a clone."
        ) from None
    return next(folder.glob("pairpref-*.whl"))


def closure(
    own: Path, folder: Path, target: Target, has: Versions, download: Callable[[list[str]], None]
) -> list[Path]:
    """The wheels that a wheel needs in turn and the image lacks.

    Args:
        folder: where `download` puts the wheels of a list of requirements.
    """
    chosen = {_name(own): own}
    asked: dict[str, list[tuple[Requirement, str]]] = defaultdict(list)
    done: set[tuple[str, str]] = set()
    todo = {(_name(own), "")}
    while todo:
        level = [
            (need, chosen[name].name)
            for name, x in todo
            for need in _needs(chosen[name], target, x)
        ]
        for need, by in level:
            asked[canonicalize_name(need.name)].append((need, by))
        names = {str(canonicalize_name(need.name)): need.extras for need, _ in level}
        lacking = [n for n in names if n not in chosen and not _fits(has.get(n), asked[n])]
        if lacking:
            download(sorted(n + _limits(asked[n]) for n in lacking))
            chosen |= {_name(path): path for path in folder.glob("*.whl")}
        done |= todo
        todo = {(n, x) for n in names if n in chosen for x in ("", *names[n])} - done
    for name, needs in asked.items():
        if name in chosen and not _fits(parse_wheel_filename(chosen[name].name)[1], needs):
            told = "; ".join(sorted({f"{by} needs {need}" for need, by in needs}))
            raise UserError(f"{chosen[name].name} does not fit: {told}. Change constraints.txt.")
    return sorted(path for path in chosen.values() if path != own)


def _needs(wheel: Path, target: Target, extra: str) -> Iterator[Requirement]:
    """What a wheel requires on the target, for an extra or, where that is empty, in any case."""
    with ZipFile(wheel) as opened:
        name = next(n for n in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        metadata = Parser().parsestr(opened.read(name).decode())
    python = metadata.get("Requires-Python") or ""
    if not SpecifierSet(python).contains(f"{target.python}.0"):
        raise UserError(f"--python {target.python}: {wheel.name} needs Python {python}.")
    where = target.environment() | {"extra": extra}
    for need in map(Requirement, metadata.get_all("Requires-Dist") or ()):
        if need.marker is None or need.marker.evaluate(where):
            yield need


def _fits(version: Version | None, needs: list[tuple[Requirement, str]]) -> bool:
    return version is not None and all(
        need.specifier.contains(version, prereleases=True) for need, _ in needs
    )


def _limits(needs: list[tuple[Requirement, str]]) -> str:
    return ",".join(sorted({str(need.specifier) for need, _ in needs if need.specifier}))


def _name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _pip(command: str, *options: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    asked = [sys.executable, "-m", "pip", command, *quiet, *options]
    # The same source gives the same wheel.
    environment = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}
    done = subprocess.run(asked, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"pip {command} failed: {reason}")
