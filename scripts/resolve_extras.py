"""Resolve every extra of wsipsm with pip, as into an empty environment, and print what it would install.

Extras under ``tool.wsipsm.without-constraints`` in pyproject.toml conflict with constraints.txt and are resolved
without it; all others, and the package alone, are resolved with it. The exit code is 1 when one cannot be resolved, and
2 for an unknown extra.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ALONE = "(none)"
SHOWN = ("torch", "torchvision", "numpy", "dask")


def pip_command(extra: str, constrained: bool, report: Path) -> list[str]:
    """Make the pip command that resolves an extra and writes a report of what it would install."""
    what = str(ROOT) if extra == ALONE else f"{ROOT}[{extra}]"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--disable-pip-version-check", "--report", str(report)]
    return [*command, *(["-c", str(ROOT / "constraints.txt")] if constrained else []), what]


def versions(report: dict[str, Any]) -> dict[str, str]:
    """Return the versions that pip would install, by name."""
    found = [item["metadata"] for item in report["install"]]
    return {item["name"].lower(): item["version"] for item in found}


def reason(stdout: str, stderr: str) -> str:
    """Find why pip failed: its errors on stderr, and the cause of the conflict on stdout."""
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR")]
    _, found, causes = stdout.partition("The conflict is caused by:")
    return "\n".join([*errors, *(f"{found}{causes}".rstrip().splitlines())])


def resolve(extra: str, constrained: bool) -> bool:
    """Resolve one extra, print its row, and tell whether that worked."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        start = time.monotonic()
        ended = subprocess.run(pip_command(extra, constrained, report), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        how = "constraints.txt" if constrained else "newest"
        if ended.returncode:
            print(f"{extra:<18}{how:<17}{'FAILS':>8}{seconds:>6.0f} s", flush=True)
            print(reason(ended.stdout, ended.stderr), flush=True)
            return False
        found = versions(json.loads(report.read_text()))
    shown = "  ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    print(f"{extra:<18}{how:<17}{len(found):>8}{seconds:>6.0f} s  {shown}", flush=True)
    return True


def main() -> int:
    """Resolve the extras that are named, or all, and the package alone."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [ALONE, *content["project"]["optional-dependencies"]]
    chosen = sys.argv[1:] or extras
    unknown = sorted(set(chosen) - set(extras))
    if unknown:
        print(f"{', '.join(unknown)}: no such extra; {', '.join(extras[1:])} are known.", file=sys.stderr)
        return 2
    free = content["tool"]["wsipsm"]["without-constraints"]
    print(f"{'extra':<18}{'versions':<17}{'packages':>8}{'time':>8}")
    failed = [extra for extra in chosen if not resolve(extra, extra not in free)]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} resolve")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
