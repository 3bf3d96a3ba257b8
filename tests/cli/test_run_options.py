"""The options that ``run`` and ``cohort`` share are those of ``RunOptions``, with its defaults."""

from __future__ import annotations

import pytest
import typer

from wsipsm.cli.main import app
from wsipsm.config import RunOptions

NOT_AN_OPTION = {"stain", "absent_class_is_error", "inference"}
"""Fitted from the slide of ``--stain-from``; set by the command."""


@pytest.mark.parametrize("name", ["run", "cohort"])
def test_a_command_offers_every_field_with_its_default(name: str) -> None:
    command = typer.main.get_command(app)
    offered = {parameter.name: parameter.default for parameter in command.commands[name].params}
    for field, of_run in RunOptions.model_fields.items():
        if field not in NOT_AN_OPTION:
            assert offered[field] == of_run.default, field
