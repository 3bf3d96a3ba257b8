"""Shared fixtures: where the real data lies, and which tests are slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_DIR = Path(os.environ.get("WSIPSM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real slides and images; tests that need it skip when it is absent."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no test data at {DATA_DIR}; set WSIPSM_TEST_DATA")
    return DATA_DIR


@pytest.fixture(scope="session")
def slides_dir(data_dir: Path) -> Path:
    return data_dir / "slides"


@pytest.fixture(scope="session")
def tiny_engine() -> str:
    """Settings of the paper's engine as TOML, in the smallest trainings that run."""
    return """
[pretext]
network = "torchvision:resnet18"
steps = 1
batch = 2
crop_px = 64
[clusters]
min_area_px = 40
[detection]
steps = 1
batch = 1
crop_px = 32
[segmentation]
steps = 1
batch = 1
crop_px = 32
"""
