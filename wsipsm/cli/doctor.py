"""``wsipsm doctor``: checks what works on this machine."""

from __future__ import annotations

import typer

from wsipsm.cli.options import AsJson
from wsipsm.cli.terminal import show, show_json, show_word
from wsipsm.errors import EXIT_OK, EXIT_UNEXPECTED

_COLOURS = {"ok": "green", "note": "yellow", "fail": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Show which libraries, processors, memory and models this machine has for a run.

    The exit code is 0 when a run can work, and 1 when something that it needs is missing.

    Example: wsipsm doctor
    """
    from wsipsm.doctor import examine_machine

    findings = examine_machine()
    n_failed = sum(finding.state == "fail" for finding in findings)
    if as_json:
        show_json({"ok": n_failed == 0, "findings": [finding.to_dict() for finding in findings]})
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            show_word(f"{finding.state:4}", _COLOURS[finding.state])
            show(f"  {finding.subject:{width}}  {finding.found}")
            if finding.remedy:
                show(f"      {'':{width}}  {finding.remedy}")
        show("Everything that a run needs is here." if n_failed == 0 else f"{n_failed} of the above must be repaired.")
    raise typer.Exit(EXIT_OK if n_failed == 0 else EXIT_UNEXPECTED)
