"""The command that downloads a data set: python -m tinycv.data.download fashion-mnist

It prints the folder of the files, and how to read them.  fetch.py does the work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tinycv.data.fetch import SOURCES, DownloadError, download


def main(arguments: Sequence[str] | None = None) -> None:
    """Download, and print what to do with the files. An error is printed in one line, with exit
    status 1."""
    options = argparse.ArgumentParser(
        prog="python -m tinycv.data.download",
        description="Download a data set once, into the folder for caches; check its files.",
    )
    options.add_argument("name", choices=list(SOURCES), help="the data set")
    options.add_argument("--folder", help="keep the files here instead")
    chosen = options.parse_args(arguments)
    try:
        folder = download(chosen.name, chosen.folder)
    except (DownloadError, OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    reader = SOURCES[chosen.name].reader
    print(folder)
    print(f"read it:      train_x, train_y, test_x, test_y = tinycv.data.{reader}({str(folder)!r})")
    if reader == "idx_folder":
        print(f'train on it:  python demos/06_vit.py --data "{folder}"')


if __name__ == "__main__":
    main()
