"""The ``wsipsm`` command: its subcommands, and how errors are shown to a user."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wsipsm.cli import agree, bench, cohort, demo, doctor, inspect, psm, run, score, status, train
from wsipsm.cli.signals import describe_stop, leave_on_signals, stop_on_signals
from wsipsm.cli.streams import open_streams
from wsipsm.cli.terminal import CleanFormatter, show, show_traceback
from wsipsm.errors import EXIT_UNEXPECTED, WsipsmError, one_line
from wsipsm.paths import require_plain_word
from wsipsm.remote.address import without_secrets

DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "WSIPSM_DEBUG"


class CommandGroup(TyperGroup):
    """Group of commands that turns every error into one line on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` before or after the command's name; refuse words that results could not store as names."""
        for word in args:
            require_plain_word(word)
        options = args[: args.index("--")] if "--" in args else args
        if DEBUG_FLAG in options:
            args = [DEBUG_FLAG, *(word for word in options if word != DEBUG_FLAG), *args[len(options) :]]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line; --help and --version print and exit here."""
        return _with_short_errors(functools.partial(super().make_context, *args, **kwargs))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _with_short_errors(functools.partial(super().invoke, ctx))


def _with_short_errors(act: Callable[[], Any]) -> Any:
    """Call a function; turn an error that it raises into one line on stderr and an exit code."""
    try:
        try:
            result = act()
        except typer.Exit:
            _flush()
            raise
        _flush()
        return result
    except WsipsmError as error:
        _say(f"error: {one_line(error)}", error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", ["Nothing was left half-written."])
        reason, code = describe_stop(interrupt)
        _say(f"{reason}: {' '.join(notes)}")
        raise typer.Exit(code) from interrupt
    except BrokenPipeError as error:
        _leave_closed_pipe()
        raise typer.Exit(EXIT_UNEXPECTED) from error
    except Exception as error:
        # Typer formats its own usage errors, and typer.Exit carries the exit code of a command.
        _clean_usage_error(error)
        if isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "format_message"):
            raise
        raise _unexpected(error) from error


app = typer.Typer(
    name="wsipsm",
    cls=CommandGroup,
    help="Find nuclei on whole-slide images and score Ki-67, with models trained without labels. "
    "Research use only, not for diagnosis.",
    epilog="First steps: wsipsm demo, then wsipsm run slide.svs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("cohort")(cohort.cohort)
app.command("score")(score.score)
app.command("status")(status.status)
app.command("agree")(agree.agree)
app.command("train")(train.train)
app.command("psm")(psm.psm)
app.command("bench")(bench.bench)
app.command("info")(inspect.info)
app.command("check")(inspect.check)
app.command("models")(inspect.models)
app.command("doctor")(doctor.doctor)


def print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from importlib.metadata import version

        show(f"wsipsm {version('wsipsm')}")
        raise typer.Exit


@app.callback()
def configure(
    debug: Annotated[
        bool, typer.Option(DEBUG_FLAG, help="Show tracebacks and log lines of libraries.", envvar=DEBUG_VARIABLE)
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Set up logging."""
    if debug:
        # Processes of a local cluster inherit the variable.
        os.environ[DEBUG_VARIABLE] = "1"
    level = logging.INFO if debug else logging.CRITICAL
    handler = logging.StreamHandler()
    # The level is set on the handler, because distributed sets levels of its loggers when it is imported later.
    handler.setLevel(level)
    handler.setFormatter(CleanFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)


def main() -> None:
    """Run the command with its own handling of signals and streams; :mod:`wsipsm.cli.start` calls this."""
    stop_on_signals()
    open_streams()
    try:
        app()
    finally:
        leave_on_signals()


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "").lower() not in ("", "0", "false", "no", "off")


def _say(line: str, error: BaseException | None = None) -> None:
    if error is not None and _debugging():
        show_traceback(error)
    show(without_secrets(line), err=True)


def _clean_usage_error(error: Exception) -> None:
    """Clean the message that Typer will print, since it repeats words of the command line, perhaps odd file names."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        vars(error)["message"] = without_secrets(one_line(message))


def _unexpected(error: Exception) -> typer.Exit:
    what = one_line(error) or "no message"
    where = "" if _debugging() else f" Run it again with {DEBUG_FLAG} to see where it occurred."
    _say(f"error: unexpected {type(error).__name__}: {what}.{where}", error)
    return typer.Exit(EXIT_UNEXPECTED)


def _flush() -> None:
    """Flush standard output, so that a failing stream raises here and not in the interpreter's flush at exit."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _leave_closed_pipe() -> None:
    # The interpreter flushes stdout once more at exit and needs a file descriptor that it can write to.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
