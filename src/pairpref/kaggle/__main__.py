"""python -m pairpref.kaggle make DIR | verify DIR: a run as a folder for a Kaggle notebook."""

import os
from pathlib import Path

from packaging.version import Version

from pairpref import cli
from pairpref.errors import command, say
from pairpref.kaggle import wheels


def main(argv: list[str] | None = None) -> None:
    example = "pairpref bundle make bundle\n  pairpref bundle verify bundle"
    about = "Gather a finished run for a notebook without internet, or check such a folder."
    parser = cli.parser("bundle", about, example)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make | verify")
    add = commands.add_parser("make", help="models/, wheels, a sample and a notebook").add_argument
    add("folder", type=Path, metavar="DIR", help="a new folder")
    add("--python", default=wheels.PYTHON, type=Version, help="version (default: %(default)s)")
    platform = (
        "of the wheels, as pip names it; may be repeated (default: linux, x86_64, glibc 2.35)"
    )
    add("--platform", action="append", help=platform)
    image = "pip freeze of the image; what it has is left out (default: Kaggle's of August 2026)"
    add("--image", type=Path, metavar="FILE", help=image)
    add("--half", action="store_true", help="weights in float16")
    add = commands.add_parser("verify", help="hashes, kinds of files, the sample").add_argument
    add("folder", type=Path, metavar="DIR")
    asked = parser.parse_args(argv)
    with command(f"bundle {asked.command}"):
        if asked.command == "verify":
            os.environ["HF_HUB_OFFLINE"] = "1"  # a bundle has all it needs
            from pairpref.kaggle.verify import verify

            verify(asked.folder, say)
            return
        from pairpref.kaggle.make import make

        target = wheels.Target(str(asked.python), tuple(asked.platform or wheels.PLATFORMS))
        make(asked.folder, target, wheels.image(asked.image), asked.half, say)


if __name__ == "__main__":
    main()
