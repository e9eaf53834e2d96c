"""Writes every dashboard as JSON: `python -m build [FOLDER]`, from the folder `grafana`; the default is `dashboards`."""

import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import campaign, channels, journal, overview, process, tracking

MODULES = [overview, campaign, channels, journal, tracking, process]


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "dashboards"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        text = JSONEncoder(sort_keys=True, indent=2).encode(module.build())
        name = module.__name__.rsplit(".", 1)[-1]
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


main()
