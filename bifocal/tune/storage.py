"""Where Optuna keeps a study: a journal file that survives kill -9, or a database.

Imports Optuna, which is optional; whoever may lack it imports this when it is needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from bifocal.errors import ConfigError
from bifocal.tune import samplers
from bifocal.tune.claim import JournalLock, locked
from bifocal.tune.search import Search


def open_study(search: Search, storage: str, name: str) -> optuna.Study:
    """Return the study in a storage, made if need be.

    Args:
        search: what is looked for, and how.
        storage: address of a database, as "postgresql://host/name", or path of a journal file.
        name: of the study among others in a database.

    Raises:
        ConfigError: the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        kept = _database(storage) if "://" in storage else _journal(Path(storage))
        return optuna.create_study(
            study_name=name,
            storage=kept,
            sampler=_sampler(search),
            pruner=_pruner(search),
            direction="maximize" if search.higher else "minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"cannot open the study in {_without_password(storage)}: {reason}. Give --storage the "
            "address of a database, as sqlite:///study.db, or the path of a journal file"
        ) from None


def _journal(path: Path) -> BaseStorage:
    """Open a journal, without the line that a killed machine left half written."""
    lock = path.with_name(path.name + ".lock")
    with locked(lock):
        if path.exists():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with path.open("r+b") as file:
                    file.truncate(whole)
        # Optuna asks of a lock these two methods, and of its type nothing.
        backend = JournalFileBackend(str(path), lock_obj=cast(Any, JournalLock(lock)))
    return JournalStorage(backend)


def _database(address: str) -> BaseStorage:
    return RDBStorage(address)


def _sampler(search: Search) -> BaseSampler:
    match search.sampler:
        case "grid":
            return samplers.Listed([dict(row) for row in search.space.coded_grid()])
        case "manual":
            return samplers.Listed([])
        case "random":
            return samplers.random(search.seed)
        case "tpe":
            return samplers.tpe(search.seed)


def _pruner(search: Search) -> BasePruner:
    match search.pruner:
        case "none":
            return NopPruner()
        case "median":
            return MedianPruner()
        case "hyperband":
            first, last = search.resource
            return HyperbandPruner(min_resource=first, max_resource=last)


def _without_password(address: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:…@", address)
