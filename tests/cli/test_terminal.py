"""Nothing raw reaches a terminal: there is one way to it, and every command goes that way."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

import wsipsm
from wsipsm.cli import start, terminal
from wsipsm.cli.main import app, main

ESCAPE = "\x1b[31mred\x07\u202e"


def test_only_one_module_writes_to_the_terminal() -> None:
    found = []
    for path in Path(wsipsm.__file__).parent.rglob("*.py"):
        # The command's first lines say one word of their own, while everything else still loads.
        if path in (Path(terminal.__file__), Path(start.__file__)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "typer.echo", "typer.secho", "click.echo", "traceback.print_exception") or (
                    called.startswith(("sys.stdout.", "sys.stderr.")) and called.endswith((".write", ".writelines"))
                ):
                    found.append(f"{path.name}:{node.lineno}: {called}")

    assert found == []


@pytest.mark.parametrize("words", [["info"], ["check"], ["score"], ["status"], ["run"], ["models"], []])
def test_a_word_of_the_command_line_comes_back_clean(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["wsipsm", *words, ESCAPE])

    with pytest.raises(SystemExit):
        main()

    shown = "".join(capfd.readouterr())
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "red" in shown


def test_an_unknown_option_comes_back_clean(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["info", f"--{ESCAPE}"], [f"--{ESCAPE}"]):
        monkeypatch.setattr("sys.argv", ["wsipsm", *words])
        with pytest.raises(SystemExit):
            app()

        assert not set("".join(capfd.readouterr())) & set("\x1b\x07\u202e")


def test_log_lines_and_tracebacks_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, f"one{ESCAPE}\ntwo", None, None)
    try:
        raise ValueError(ESCAPE)
    except ValueError as error:
        terminal.show_traceback(error)

    shown = capsys.readouterr().err + terminal.CleanFormatter("%(message)s").format(record)
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "one" in shown
    assert "\ntwo" in shown
