"""From a name or a path to a model, and what is said when there is none."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from wsipsm.errors import ModelError
from wsipsm.keys import Stain
from wsipsm.models import registry
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import list_models, read_card, resolve_model

CONTENT = b"weights"


def write_model(folder: Path, name: str, stem: str | None = None) -> ModelCard:
    card = ModelCard(
        name=name,
        stain=Stain.HE,
        mpp=0.5,
        stride=16,
        reach_px=160,
        outputs=("nucleus", "distance"),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    path = folder / f"{stem or name}.safetensors"
    path.write_bytes(CONTENT)
    path.with_suffix(".json").write_text(card.model_dump_json())
    return card


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(registry, "zoo_dir", lambda: folder)
    return folder


def test_shipped_models_are_listed_by_name(zoo: Path) -> None:
    cards = [write_model(zoo, name) for name in ("nuclei-he", "ki67-ihc")]
    assert list_models() == cards[::-1]
    assert resolve_model("nuclei-he") == (zoo / "nuclei-he.safetensors", cards[0])


def test_no_zoo_is_an_empty_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "zoo_dir", lambda: tmp_path / "absent")
    assert list_models() == []
    with pytest.raises(ModelError, match="the package holds no models"):
        resolve_model("nuclei-he")


def test_shipped_name_wins_over_a_folder(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(zoo, "nuclei-he")
    (tmp_path / "nuclei-he").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("nuclei-he")[0] == zoo / "nuclei-he.safetensors"


def test_unknown_name_lists_the_known(zoo: Path) -> None:
    write_model(zoo, "nuclei-he")
    write_model(zoo, "ki67-ihc")
    with pytest.raises(ModelError, match=r"'nuclei-e': no such model; ki67-ihc, nuclei-he, .*Did you mean nuclei-he"):
        resolve_model("nuclei-e")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("absent.safetensors", "is not there"),
        ("folder.safetensors", "is a folder"),
        ("own.json", "this is a model card"),
        ("own.onnx", "the name ends in '.onnx'"),
        ("folder", "the name ends in ''"),
    ],
)
def test_paths_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path, "own")
    Path("folder").mkdir()
    Path("folder.safetensors").mkdir()
    with pytest.raises(ModelError, match=told) as caught:
        resolve_model(given)
    assert given in str(caught.value)


def test_weights_without_card(tmp_path: Path) -> None:
    write_model(tmp_path, "own")
    (tmp_path / "own.json").unlink()
    with pytest.raises(ModelError, match=r"own.json: is not there; the model's card must lie beside"):
        resolve_model(tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "JSON"),
        ("[]", "a model card is needed"),
        ("{", "JSON"),
        ('{"name": "own"}', "stain: Field required"),
        ("\udcff", "own.json"),
    ],
)
def test_broken_cards_name_file_and_reason(tmp_path: Path, content: str, told: str) -> None:
    write_model(tmp_path, "own")
    (tmp_path / "own.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=told) as caught:
        resolve_model(tmp_path / "own.safetensors")
    assert "own.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_outputs_and_fields_are_refused(tmp_path: Path) -> None:
    card = write_model(tmp_path, "own")
    path = tmp_path / "own.json"
    path.write_text(card.model_copy(update={"outputs": ("distance", "nucleus")}).model_dump_json())
    with pytest.raises(ModelError, match="its outputs are distance\\+nucleus"):
        read_card(path)
    path.write_text(card.model_dump_json()[:-1] + ',"extra":1}')
    with pytest.raises(ModelError, match="extra"):
        read_card(path)


def test_a_file_as_large_as_a_slide_is_no_card(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(b" " * 1_000_001)
    with pytest.raises(ModelError, match="far smaller"):
        read_card(path)


def test_package_models_are_whole() -> None:
    cards = list_models()
    if not cards:
        pytest.skip("no models in the package")
    for card in cards:
        weights, found = resolve_model(card.name)
        assert found == card
        assert weights.stem == card.name


def test_looking_up_models_loads_no_torch() -> None:
    code = "import sys, wsipsm.models.registry as r; r.list_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
