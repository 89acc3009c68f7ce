"""A PostgreSQL server of the tests' own, on loopback. `python -m tests.search.postgresql URL DIR SEED`: one search."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from bcgraph import schema
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, run
from tests.needs import program
from tests.search import landscape

PASSWORD = "s3cr/t:p@ss%"
USER = "searcher"


@dataclass(frozen=True)
class Server:
    """A server whose data lie in `folder`."""

    folder: Path
    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} "
            "-c fsync=off -c shared_buffers=16MB -c max_connections=20"
        )
        _run("pg_ctl", "start", "--wait", "--silent", "-D", str(self.data), "-l", str(self.log), "-o", options)

    def stop(self) -> None:
        """As if the machine were switched off: connections break, nothing is told."""
        _run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate", "-D", str(self.data))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def ask(self, text: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of a query."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            answer = connection.execute(text)  # type: ignore[call-overload]
            return answer.fetchall() if answer.description else []

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        self.ask(f'create database "{name}"')
        return self.url(name)

    def cut(self, database: str) -> int:
        """Cut all connections to a database; returns how many there were."""
        where = f"from pg_stat_activity where datname = '{database}' and pid <> pg_backend_pid()"
        return len(self.ask(f"select pg_terminate_backend(pid) {where}"))

    def trials(self, database: str) -> dict[str, int]:
        """The number of trials in each study."""
        rows = self.ask("select study_name, count(*) from trials join studies using (study_id) group by 1", database)
        return {str(name): int(str(count)) for name, count in rows}


@contextmanager
def serving() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="bcgraph-postgresql-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server = Server(folder, free.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        access = ("--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--no-locale", "--encoding=UTF8")
        _run("initdb", "-D", str(server.data), "-U", USER, *access)
        server.start()
        try:
            yield server
        finally:
            _run("pg_ctl", "stop", "--mode=immediate", "-D", str(server.data), check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(name: str, *arguments: str, check: bool = True) -> None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    command = [str(program(name, folders=tuple(map(str, folders)))), *arguments]
    if os.geteuid() == 0:
        # The server refuses to run as root.
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, cwd="/")
    assert done.returncode == 0 or not check, f"{name} failed"


def small() -> NetworkSpec:
    """12 evaluations in the first step, 16 in the second."""
    evolve = schema.EvolveSpec(iterations=2, top=3, population=6, offspring=2, mutation=0.7)
    return landscape.spec(init=schema.InitSpec(pool=12, keep=4), evolve=evolve)


def files_of(out: Path) -> list[str]:
    return [p.read_bytes().decode(errors="replace") for p in out.rglob("*") if p.is_file()]


def without_secret(*texts: str) -> None:
    for text in texts:
        assert PASSWORD not in text
        assert quote(PASSWORD, safe="") not in text


def main(url: str, out: Path, seed: int) -> None:
    run(small(), out, seed=seed, options=Options(storage=url), evaluators=landscape.Fake())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
