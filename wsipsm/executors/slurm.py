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
    """A description of the jobs to submit; the fields are the keys of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: int = Field(ge=1, le=10_000)
    """Number of jobs that are submitted at once; each runs on one node."""
    workers_per_job: int = Field(ge=1, le=1024)
    """Worker processes of a job, of one thread and one core each; with GPUs, one for each GPU of the job."""
    memory: str
    """Memory of a job, e.g. '32GB'; a worker needs about 2 GB."""
    walltime: str = "24:00:00"
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    """Network interface by which jobs reach this machine, e.g. 'ib0'."""
    shared_temp_directory: str | None = None
    """Folder that all machines see, for the keys of the encrypted connection; None stands for the home folder."""
    directives: list[str] = []
    """Further lines of '#SBATCH', e.g. '--gres=gpu:1'."""
    prologue: list[str] = []
    """Shell lines that a job runs before its workers, e.g. 'source env/bin/activate'."""
    python: str | None = None
    """Path of the Python interpreter that jobs run; None stands for this process's."""
    wait_s: float = Field(86_400.0, gt=0)
    """Seconds to wait for the first worker, since jobs wait in a queue; the default is a day."""


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
    """Submit jobs and wait for the first worker; the jobs are cancelled at the end.

    Parameters
    ----------
    profile
        Description of the jobs.
    fingerprint
        Function that names the code that a process runs; workers with other code are refused.
    announce
        Function that is called for workers that are lost or refused, see :class:`DaskExecutor`.

    Yields
    ------
    An executor, whose ``address`` is the scheduler's. Its connections are encrypted with keys that are made for it,
    since whoever reaches an open scheduler can run code in its user's name.

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
    """Make a folder for the jobs' logs, which all machines see and this user alone can enter."""
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
    # dask-jobqueue writes the keys as temporary files into the shared folder; closing a file removes it.
    for name in _KEY_FILES:
        getattr(cluster, name).close()


def _jobqueue() -> Any:
    """Import dask-jobqueue, and undo its handler of Ctrl-C, which would end the process with exit code 0."""
    handler_before = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import slurm
    finally:
        signal.signal(signal.SIGINT, handler_before)
    return slurm


def _recording(submissions: Submissions) -> Any:
    """Make a class of jobs that records SLURM's answers, since Dask only logs a refusal and goes on waiting."""

    class RecordedJob(_jobqueue().SLURMJob):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                submissions.refused.append(words_of(error))
                self.status = Status.failed  # otherwise Dask would not close the cluster
                raise
            submissions.accepted.append(str(self.job_id))

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
