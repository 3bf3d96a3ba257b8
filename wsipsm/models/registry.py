"""A search for models, shipped ones and the user's own: from a name or a path to weights and their card, without torch.

A model is two files with the same stem in one folder: ``name.safetensors`` and its card ``name.json``.
"""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from pydantic import ValidationError

from wsipsm.errors import ModelError
from wsipsm.models.card import OUTPUTS, ModelCard
from wsipsm.models.shipped import zoo_dir

WEIGHTS_SUFFIX = ".safetensors"
MAX_WEIGHTS_BYTES = 1_000_000_000
"""Largest weights file that is read; the shipped networks have about 5 MB, so a larger file is of another kind."""
_MAX_CARD_BYTES = 1_000_000
_PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})


def card_path(weights: Path) -> Path:
    """Return the path of the card of a weights file."""
    return weights.with_suffix(".json")


def list_models() -> list[ModelCard]:
    """List the cards of the models in the package, sorted by name.

    Raises
    ------
    ModelError
        When a card of the package cannot be read.

    Examples
    --------
    >>> [card.name for card in list_models()]
    ['ki67-ihc', 'nuclei-he', 'nuclei-he-fast']
    """
    return sorted((read_card(path) for path in zoo_dir().glob("*.json")), key=lambda card: card.name)


def resolve_model(name_or_path: str | Path) -> tuple[Path, ModelCard]:
    """Find a model by the name of a shipped one or by the path of a weights file.

    Parameters
    ----------
    name_or_path
        Name or path; a shipped model takes precedence over a file of its name in the current folder.

    Returns
    -------
    Path of the weights, whose checksum agrees with the card, and the card.

    Raises
    ------
    ModelError
        When there is no such model, or its files are unusable.

    Examples
    --------
    >>> weights, card = resolve_model("ki67-ihc")
    >>> weights.name, card.mpp
    ('ki67-ihc.safetensors', 0.25)
    """
    shipped = {read_card(path).name: path.with_suffix(WEIGHTS_SUFFIX) for path in sorted(zoo_dir().glob("*.json"))}
    weights = shipped.get(str(name_or_path))
    if weights is None:
        weights = Path(name_or_path).expanduser()
        if not _looks_like_path(name_or_path, weights):
            raise _unknown_name(str(name_or_path), sorted(shipped))
    check_weights_path(weights)
    card = read_card(card_path(weights))
    with weights.open("rb") as stream:
        check_checksum(weights, card, hashlib.file_digest(stream, "sha256").hexdigest())
    return weights, card


def check_weights_path(weights: Path) -> None:
    """Refuse a file that cannot be weights, before any of it is read.

    Raises
    ------
    ModelError
        When the file is absent, of another kind, or too large.
    """
    check_weights_suffix(weights)
    try:
        if not weights.is_file():
            found = "is a folder" if weights.is_dir() else "is not there"
            raise ModelError(
                f"{weights}: {found}; a {WEIGHTS_SUFFIX} file is needed. Check the path given.",
                path=weights,
                value=found,
                needed=f"a {WEIGHTS_SUFFIX} file",
                option="--model",
            )
        n_bytes = weights.stat().st_size
        weights.open("rb").close()
    except OSError as error:
        raise _unreadable(weights, error) from error
    if n_bytes > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"{weights}: {n_bytes / 1e9:.1f} GB; weights of at most {MAX_WEIGHTS_BYTES / 1e9:g} GB are read. "
            "Check the path given.",
            path=weights,
            value=f"{n_bytes / 1e9:.1f} GB",
            needed=f"weights of at most {MAX_WEIGHTS_BYTES / 1e9:g} GB",
            option="--model",
        )


def check_weights_suffix(weights: Path) -> None:
    """Refuse a path that does not end in .safetensors; other formats are pickles, which can run code when loaded.

    Raises
    ------
    ModelError
        When the path has another suffix.
    """
    suffix = weights.suffix.lower()
    if suffix == WEIGHTS_SUFFIX:
        return
    if suffix in _PICKLE_SUFFIXES:
        what = f"{suffix} files can run code when they are loaded"
    elif suffix == ".json":
        what = "this is a model card, not weights"
    else:
        what = f"the name ends in {suffix!r}"
    raise ModelError(
        f"{weights}: {what}; a {WEIGHTS_SUFFIX} file with its card beside it is needed. "
        "Make one with wsipsm train, or name a shipped model.",
        path=weights,
        value=what,
        needed=f"a {WEIGHTS_SUFFIX} file with its card beside it",
        option="--model",
    )


def check_checksum(weights: Path, card: ModelCard, found: str) -> None:
    """Compare the SHA-256 of a weights file with what its card states.

    Raises
    ------
    ModelError
        When they differ.
    """
    if found != card.sha256.lower():
        raise ModelError(
            f"{weights}: its sha256 is {found}; its card states {card.sha256}. "
            "The file is damaged or belongs to another card: copy both files again, or train anew.",
            path=weights,
            value=found,
            needed=card.sha256,
            option="--model",
        )


def read_weights(weights: Path, card: ModelCard) -> bytes:
    """Read a weights file that agrees with its card.

    Raises
    ------
    ModelError
        When the file is absent, of another kind, too large, or its checksum is not the card's.
    """
    check_weights_path(weights)
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise ModelError(f"{weights}: cannot be read ({error.strerror}); a readable model is needed.") from error
    check_checksum(weights, card, hashlib.sha256(content).hexdigest())
    return content


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises
    ------
    ModelError
        When the file is absent, cannot be read, is too large, or is no card.
    """
    try:
        if not path.is_file():
            raise ModelError(
                f"{path}: is not there; the model's card must lie beside its weights. "
                "Copy both files, as wsipsm train wrote them.",
                path=path,
                value="is not there",
                needed="the model's card beside its weights",
                option="--model",
            )
        n_bytes = path.stat().st_size
        content = b"" if n_bytes > _MAX_CARD_BYTES else path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if n_bytes > _MAX_CARD_BYTES:
        raise ModelError(f"{path}: {n_bytes} bytes; a model card is far smaller. Check the path given.")
    try:
        card = ModelCard.model_validate_json(content)
    except ValidationError as error:
        raise ModelError(
            f"{path}: {_first_faults(error)}; a model card is needed. Copy it again, or train anew.",
            path=path,
            value=_first_faults(error),
            needed="a model card",
            option="--model",
        ) from error
    if card.outputs not in OUTPUTS.values():
        wanted = " or ".join("+".join(outputs) for outputs in OUTPUTS.values())
        raise ModelError(f"{path}: its outputs are {'+'.join(card.outputs)}; {wanted} are needed. Train anew.")
    return card


def _first_faults(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    shown = [": ".join(filter(None, (".".join(map(str, p["loc"])), p["msg"]))) for p in problems[:3]]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return ", ".join(shown)


def _looks_like_path(given: str | Path, path: Path) -> bool:
    return isinstance(given, Path) or bool(path.suffix) or len(path.parts) > 1 or path.exists()


def _unknown_name(name: str, known: list[str]) -> ModelError:
    if not known:
        return ModelError(
            f"model {name!r}: the package holds no models; the path of a {WEIGHTS_SUFFIX} file is needed."
        )
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "Check the name or path given."
    return ModelError(
        f"model {name!r}: no such model; {', '.join(known)}, or the path of a {WEIGHTS_SUFFIX} file, is needed. {hint}",
        value=name,
        needed=", ".join(known),
        option="--model",
    )


def _unreadable(path: Path, error: OSError) -> ModelError:
    reason = error.strerror or str(error)
    return ModelError(
        f"{path}: cannot be read ({reason}); a readable model is needed. Check the path given.",
        path=path,
        value=reason,
        needed="a readable model",
        option="--model",
    )
