"""Workers as SLURM jobs: a scheduler in this process, and jobs that join it when the queue lets them start."""

from __future__ import annotations

import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask.config
from distributed import Status
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsipsm.errors import UsageError
from wsipsm.executors.dask import DaskExecutor
from wsipsm.executors.local import SilentScheduler
from wsipsm.executors.own_keys import make_own_keys
from wsipsm.executors.slurm_queue import Submissions, check_commands, wait_for_worker, words_of

_KEY_FILES = ("_job_ca_file", "_job_cert", "_job_key")
_NEEDS = (
    "the extra 'slurm' is needed (pip install 'wsipsm[slurm]'). Install it, or start 'dask scheduler' and 'dask "
    "worker' yourself and give --scheduler."
)


class SlurmProfile(BaseModel):
    """Description of the jobs to ask for; the fields are the keys of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: int = Field(ge=1, le=10_000)
    """Number of jobs that are asked for at once; each is one node's part."""
    workers_per_job: int = Field(ge=1, le=1024)
    """Processes of one thread; as many cores are asked for. One for each GPU of the job."""
    memory: str
    """Memory of a job, e.g. '32GB'; about 2 GB a worker."""
    walltime: str = "24:00:00"
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    """Network that jobs reach this machine by, e.g. 'ib0'."""
    shared_temp_directory: str | None = None
    """Folder that all machines see, for the keys of the encrypted connection; the home folder without it."""
    directives: list[str] = []
    """Further lines of '#SBATCH', e.g. '--gres=gpu:1'."""
    prologue: list[str] = []
    """Shell lines of a job before the workers, e.g. 'source env/bin/activate'."""
    python: str | None = None
    """Python interpreter that jobs run; this one where none is given."""
    wait_s: float = Field(86_400.0, gt=0)
    """Seconds to wait for the first worker: jobs wait in a queue."""


def read_slurm_profile(path: Path) -> SlurmProfile:
    """Read a profile.

    Raises
    ------
    UsageError
        When the profile cannot be used; the message names the file, the key and the value.
    """
    try:
        return SlurmProfile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"--slurm {path}: cannot be read ({error.strerror}); a TOML file is needed.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--slurm {path}: {error}; valid TOML is needed. See docs/cluster.md.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--slurm {path}: {key} = {first.get('input')!r}: {first['msg'].lower()}. Every key: docs/cluster.md."
        ) from error


@contextmanager
def opened_slurm(
    profile: SlurmProfile, fingerprint: Callable[[], str], announce: Callable[[str, str], None] | None = None
) -> Iterator[DaskExecutor]:
    """Submit the jobs and wait for the first worker; they are cancelled at the end.

    Parameters
    ----------
    profile
        Jobs to ask for.
    fingerprint
        Function that says what code a process runs; workers with other code are refused.
    announce
        Function that is called for workers that are lost or refused, see :class:`DaskExecutor`.

    Yields
    ------
    An executor, whose ``address`` is the scheduler's. Connections are encrypted with keys made for it, since
    whoever reaches an open scheduler can run code as its user.

    Raises
    ------
    UsageError
        When the extra is not installed, SLURM refuses the jobs, or none starts in time.
    """
    check_commands()
    submissions = Submissions()
    with ExitStack() as stack:
        logs = stack.enter_context(_shared_folder(profile))
        own = stack.enter_context(TemporaryDirectory(prefix="wsipsm-dask-", ignore_cleanup_errors=True))
        cluster = _opened_cluster(profile, submissions, logs, own)
        stack.callback(_close, cluster)
        cluster.scale(jobs=profile.jobs)
        wait_for_worker(submissions, profile.jobs, lambda: len(cluster.scheduler.workers), Path(logs), profile.wait_s)
        if announce is not None:
            for words in submissions.refused:
                announce("job refused", words)
        with DaskExecutor(
            cluster=cluster, fingerprint=fingerprint, join_s=profile.wait_s, announce=announce
        ) as executor:
            yield executor


@contextmanager
def _shared_folder(profile: SlurmProfile) -> Iterator[str]:
    """Make a folder that all machines see and this user alone can enter, for what jobs print."""
    try:
        folder = TemporaryDirectory(prefix=".wsipsm-slurm-", dir=_shared(profile), ignore_cleanup_errors=True)
    except OSError as error:
        raise UsageError(
            f"--slurm: {_shared(profile)} cannot be written ({error.strerror}); a folder that all machines see is "
            "needed. Give shared_temp_directory in the profile."
        ) from error
    with folder as path:
        yield path


def _shared(profile: SlurmProfile) -> str:
    return profile.shared_temp_directory or str(Path.home())


def _close(cluster: Any) -> None:
    cluster.close()
    # The keys lie in a shared folder as temporary files, which are removed when they are closed.
    for name in _KEY_FILES:
        getattr(cluster, name).close()


def _jobqueue() -> Any:
    """Import dask-jobqueue, and undo its handler of Ctrl-C, which would end the process with exit code 0."""
    heard = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import slurm
    finally:
        signal.signal(signal.SIGINT, heard)
    return slurm


def _recording(submissions: Submissions) -> Any:
    """Make a class of jobs that records SLURM's answers; Dask only logs a refusal and goes on waiting."""

    class RecordedJob(_jobqueue().SLURMJob):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                submissions.refused.append(words_of(error))
                self.status = Status.failed  # otherwise Dask would not close the cluster
                raise
            submissions.taken.append(str(self.job_id))

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return RecordedJob


def _opened_cluster(profile: SlurmProfile, submissions: Submissions, logs: str, own: str) -> Any:
    try:
        jobqueue = _jobqueue()
    except ImportError as error:
        raise UsageError(f"--slurm: {error.name} is not installed; {_NEEDS}") from error
    given: dict[str, Any] = {
        "queue": profile.queue,
        "account": profile.account,
        "interface": profile.interface,
        "python": profile.python,
    }
    try:
        with dask.config.set({"temporary-directory": own}):
            return jobqueue.SLURMCluster(
                job_cls=_recording(submissions),
                cores=profile.workers_per_job,
                processes=profile.workers_per_job,
                memory=profile.memory,
                walltime=profile.walltime,
                job_extra_directives=profile.directives,
                job_script_prologue=profile.prologue,
                log_directory=logs,
                security=make_own_keys(),
                protocol="tls://",
                scheduler_cls=SilentScheduler,
                scheduler_options={"dashboard": False},
                shared_temp_directory=_shared(profile),
                **{key: value for key, value in given.items() if value is not None},
            )
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"--slurm: no scheduler could be started ({error}); check the profile's interface.") from error
