"""A real PostgreSQL in a temporary folder, where one is installed (Debian's package postgresql)."""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

PASSWORD = "very-secret-word"


class Postgres:
    """One server that can be stopped and started; each database is a place of its own."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        self._numbers = itertools.count()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(secret, user)
        data, password = f"--pgdata={folder}/data", f"--pwfile={secret}"
        self._run(
            "initdb",
            data,
            password,
            "--username=dle",
            "--auth=scram-sha-256",
            "--locale=C",
            "--encoding=UTF8",
            "--no-sync",
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder}"
        self._run(
            "pg_ctl", f"--pgdata={self._folder}/data", "--wait", f"--log={self._folder}/log", "-o", options, "start"
        )

    def stop(self) -> None:
        """End it as in a crash: whoever is connected is cut off."""
        self._run("pg_ctl", f"--pgdata={self._folder}/data", "--wait", "--mode=immediate", "stop")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While the block runs it takes connections and says nothing, as behind a network that swallows packets."""
        postmaster = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]))
        stopped = [postmaster, *postmaster.children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://dle:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def create(self) -> str:
        """Make a new database; its URL."""
        database = f"feedback_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())
        return self.url(database)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if self._user is not None:
            command = ["runuser", "-u", self._user, "--", *command]
        # its output is the server's as well, which outlives it: a pipe would never end
        with (self._folder / "output").open("w") as output:
            done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, (self._folder / "output").read_text()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that runs until the block ends; skips the test where there is none to run."""
    programs = _programs()
    if programs is None:
        pytest.skip("NOT TESTED: PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="dle-postgres-"))
    server = None
    try:
        server = Postgres(programs, folder, _user())
        server.start()
        yield server
    finally:
        if server is not None and (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
