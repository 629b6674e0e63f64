"""What the benchmarks of whole programs have in common: programs on processors of their own, and a load on them."""

import atexit
import itertools
import os
import pathlib
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONNECTIONS = 32
ROOT = pathlib.Path(__file__).resolve().parent.parent
CPUS = sorted(os.sched_getaffinity(0))
OURS, THEIRS = CPUS[-1], CPUS[0]


def build():
    """The program, and the one that allows everything, as they are released: where they stand."""
    given = os.environ.get("TOKENWARD_PROGRAM")
    if given is None:
        build = "cargo build --release --quiet -p tokenward-server --features bench --bin tokenward --example always_ok"
        subprocess.run(build.split(), cwd=ROOT, check=True)
        given = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "release/tokenward"
    program = pathlib.Path(given)
    return program, program.parent / "examples/always_ok"


def row(what, figure, limit, at_least=False):
    """A row of the table that bench/run makes. Whether it is as it is to be."""
    met = figure >= limit if at_least else figure <= limit
    print(f"= {what:<76} {figure:8.4f} {'≥' if at_least else '≤'} {limit:<7.4f} {'met' if met else 'MISSED'}", flush=True)
    return met


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A child on one processor, in a directory with the examples on ports of its own."""

    def __init__(self, command, ports, edit=lambda text: text, cpu=THEIRS, files=None):
        self.directory = tempfile.TemporaryDirectory()
        place = pathlib.Path(self.directory.name)
        place.chmod(0o755)
        self.keep(files or {}, "")
        for source in (ROOT / "examples").rglob("*"):
            if source.is_file() and source.suffix != ".rs":
                target = place / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                moved = re.sub(r"\d+", lambda number: ports.get(number.group(), number.group()), source.read_text())
                target.write_text(edit(moved))
        self.log = open(place / "log", "w+")
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}:/usr/sbin"
        self.child = subprocess.Popen(
            ["sh", "-c", command if "exec " in command else f"exec {command}"],
            cwd=place,
            env={**os.environ, "PATH": path, "GOMAXPROCS": "1"},
            stdout=self.log,
            stderr=self.log,
            preexec_fn=lambda: os.sched_setaffinity(0, [cpu]),
        )
        # However this ends, nothing is left running.
        atexit.register(self.end)

    def keep(self, files, below="files"):
        """Files in its directory, by name."""
        place = pathlib.Path(self.directory.name) / below
        place.mkdir(exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)

    def cpu(self):
        """Seconds of processor time, of its own children too."""
        pids = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if self.child.pid in (int(stat.parent.name), int(fields[1])):
                pids.append(int(stat.parent.name))
        # The clock of a process's work has its number in its own: finer than the hundredths of a second in its `stat`.
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)

    def said(self, pattern):
        return re.search(pattern, pathlib.Path(self.log.name).read_text())

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait()
        self.directory.cleanup()


def wait_for(ready):
    until = time.monotonic() + 30
    while not ready():
        if time.monotonic() > until:
            sys.exit("a program did not become ready")
        time.sleep(0.05)


def status(port, path, headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def load(port, requests, seconds):
    """The requests in turn, one after the other on each connection. The answers are short and end with what the service says."""
    selector = selectors.DefaultSelector()
    requests = itertools.cycle(requests)
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(next(requests))
        selector.register(connection, selectors.EVENT_READ)
    done, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        for key, _ in selector.select(1):
            answer = key.fileobj.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"not allowed: {answer[:200]}")
            done += 1
            key.fileobj.sendall(next(requests))
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return done, now - began
