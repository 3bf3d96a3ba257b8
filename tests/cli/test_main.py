"""What errors look like: one line on stderr, an exit code, a traceback only when asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import typer
from typer.testing import CliRunner, Result

from wsipsm import errors
from wsipsm.cli.main import CommandGroup, app, configure

RUNNER = CliRunner()


def failing_app(error: BaseException) -> typer.Typer:
    """The same group and callback, with a command that raises."""
    failing = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
    failing.callback()(configure)

    @failing.command()
    def fail() -> None:
        raise error

    return failing


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and then deleted, so that what --debug puts into the environment is undone, too.
    monkeypatch.setenv("WSIPSM_DEBUG", "")


def invoke(error: BaseException, *args: str) -> Result:
    return RUNNER.invoke(failing_app(error), [*args, "fail"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.WsipsmError("a: b; c."), 1),
        (errors.RoiError("a: b; c."), 2),
        (errors.ModelError("a: b; c."), 2),
        (errors.MissingMppError("a: b; c."), 3),
        (errors.BudgetError("a: b; c."), 4),
        (errors.OutputError("a: b; c."), 6),
    ],
)
def test_own_errors_are_one_line_with_their_code(error: errors.WsipsmError, code: int) -> None:
    result = invoke(error)
    assert result.exit_code == code
    assert result.stderr == "error: a: b; c.\n"
    assert result.stdout == ""


def test_messages_of_several_lines_become_one() -> None:
    assert invoke(errors.UsageError("a: b\n  c;\n d.")).stderr == "error: a: b c; d.\n"


def test_unexpected_error_says_how_to_see_where() -> None:
    result = invoke(ZeroDivisionError("division by zero"))
    assert result.exit_code == 1
    assert result.stderr == (
        "error: unexpected ZeroDivisionError: division by zero. Run it again with --debug to see where it occurred.\n"
    )


@pytest.mark.parametrize("error", [errors.SlideError("a: b."), KeyError("b")])
def test_debug_shows_the_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    by_flag = invoke(error, "--debug")
    assert "Traceback" in by_flag.stderr
    assert by_flag.stderr.splitlines()[-1].startswith("error: ")
    monkeypatch.setenv("WSIPSM_DEBUG", "1")
    assert "Traceback" in invoke(error).stderr


def test_debug_is_taken_after_the_command_too() -> None:
    result = RUNNER.invoke(failing_app(errors.SlideError("a: b.")), ["fail", "--debug"])
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


def test_ctrl_c_says_how_to_continue() -> None:
    stop = KeyboardInterrupt()
    stop.add_note("Finished blocks are kept.")
    result = invoke(stop)
    assert result.exit_code == 130
    assert result.stderr == "stopped: Finished blocks are kept.\n"


def test_exit_codes_of_commands_pass() -> None:
    assert invoke(typer.Exit(7)).exit_code == 7


def test_no_arguments_show_the_commands() -> None:
    result = RUNNER.invoke(app, [])
    for name in ("demo", "run", "cohort", "train", "info", "check", "models", "doctor"):
        assert name in result.output


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_has_an_example_and_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = RUNNER.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Example: wsipsm {name}" in " ".join(result.output.split())
    options = [param for param in COMMANDS[name].params if param.name != "help" and not param.required]
    n_defaults = sum(line.count("[default: ") for line in result.output.splitlines())
    assert n_defaults == len(options)


@pytest.mark.parametrize("args", [["run"], ["run", "a.svs", "--tile-px", "many"], ["nonsense"], ["train", "a.png"]])
def test_usage_errors_exit_with_2(args: list[str]) -> None:
    assert RUNNER.invoke(app, args).exit_code == 2


def test_version() -> None:
    result = RUNNER.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.split()[0]) == (0, "wsipsm")


CHILD = """
import signal, sys, time, typer
# A shell starts what it puts in the background without it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from wsipsm.cli.main import CommandGroup, configure
from wsipsm.cli.options import says_how_to_continue
app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
app.callback()(configure)
@app.command()
def wait() -> None:
    with says_how_to_continue():
        typer.echo("ready")
        sys.stdout.flush()
        time.sleep(30)
@app.command()
def chatter() -> None:
    for _ in range({n_lines}):
        typer.echo("x" * 100)
app(["{command}"])
"""


def start(command: str, n_lines: int = 0) -> subprocess.Popen[str]:
    code = textwrap.dedent(CHILD).format(command=command, n_lines=n_lines)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


def test_ctrl_c_of_a_process() -> None:
    with start("wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == "stopped: Finished blocks are kept; the same command continues from them.\n"


@pytest.mark.parametrize("n_lines", [1, 10_000])
def test_a_reader_that_goes_away_is_no_news(n_lines: int) -> None:
    with start("chatter", n_lines) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=20)
    assert err == ""
    assert process.returncode == 1


def test_doctor_shows_no_colours_as_text() -> None:
    # A process of its own: it loads libraries that leave files open.
    code = "from wsipsm.cli.main import main; main()"
    said = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False).stdout
    assert "worker processes" in said
    assert "x1b" not in said
    assert "\x1b" not in said
