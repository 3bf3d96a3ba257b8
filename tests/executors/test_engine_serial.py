"""What every executor does, shown on the serial one; processors granted; budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsipsm.errors import BudgetError
from wsipsm.executors import task
from wsipsm.executors.budget import available_bytes, check_budget, project_budget, workers_that_fit
from wsipsm.executors.serial import SerialExecutor


def reciprocal(number: int) -> float:
    return 1 / number


def test_results_and_errors_are_outcomes_in_order() -> None:
    with SerialExecutor() as executor:
        assert executor.n_workers == 0
        outcomes = list(executor.run(reciprocal, [1, 0, 4]))
    assert [outcome.task for outcome in outcomes] == [1, 0, 4]
    assert [outcome.result for outcome in outcomes] == [1.0, None, 0.25]
    assert isinstance(outcomes[1].error, ZeroDivisionError)


def test_nothing_runs_before_it_is_asked_for() -> None:
    done: list[int] = []
    outcomes = SerialExecutor().run(done.append, [1, 2, 3])
    assert done == []
    next(outcomes)
    assert done == [1]


def test_interrupt_is_no_outcome() -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(SerialExecutor().run(stop, [1]))


def test_slurm_bounds_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    granted = task.granted_cpus()
    assert granted >= 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert task.granted_cpus() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert task.granted_cpus() == granted


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_cgroup_bounds_the_processors(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert task._cgroup_cpus(tmp_path) == expected


def test_budget_grows_with_blocks_not_with_the_slide() -> None:
    small, large = (project_budget(2048, 160, 1024, 96, area) for area in (10.0, 1000.0))
    assert small.worker_bytes == large.worker_bytes
    assert small.disk_bytes < large.disk_bytes
    assert project_budget(4096, 160, 1024, 96, 10.0).worker_bytes > small.worker_bytes
    assert small.worker_bytes < small.total_bytes(0) < small.total_bytes(1) < small.total_bytes(2)


def test_what_does_not_fit_is_refused_with_numbers_and_remedy(tmp_path: Path) -> None:
    budget = project_budget(2048, 160, 1024, 96, 10.0)
    enough = budget.total_bytes(3)
    check_budget(budget, 3, enough, tmp_path)
    with pytest.raises(BudgetError, match=r"4 worker\(s\) of .* MiB .*--workers \(3, .*a smaller --block-px"):
        check_budget(budget, 4, enough, tmp_path)
    assert workers_that_fit(budget, 8, enough) == 3
    assert workers_that_fit(budget, 2, enough) == 2
    assert workers_that_fit(budget, 8, 0) == 1
    with pytest.raises(BudgetError, match="free on that disk"):
        check_budget(project_budget(2048, 160, 1024, 96, 1e12), 1, enough, tmp_path)


def test_memory_that_may_be_taken_is_known() -> None:
    assert available_bytes() > 2**20
