"""Train on ten MoNuSeg images by `wsipsm train` and by the shipped recipe, and score both on the other twenty.

    python benchmarks/own_images.py DATA --encoder encoder.safetensors --out DIR

DATA is a folder with ``monuseg/train`` and ``slides/real``, as pipelines/nuclei_he.toml names them, and the encoder is
written by pipelines/imagenet_encoder.py. No label is read in training. Each training takes about an hour on one core.
Weights that DIR holds are not trained again, and a training that was stopped continues.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wsipsm.benchmark.bench import open_set, run_bench
from wsipsm.benchmark.names import BuiltIn, SetName
from wsipsm.benchmark.table import markdown

RECIPE = Path(__file__).parents[1] / "pipelines" / "nuclei_he.toml"
_COMMAND = str(Path(sys.executable).with_name("wsipsm"))
_EVERY = 3
"""Every third image of the set is trained on, from the first by name."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with monuseg/train and slides/real")
    parser.add_argument("--encoder", type=Path, required=True, help="weights that the recipe starts from")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="takes weights and links to the images")
    args = parser.parse_args(arguments)
    trained, scored = _split(args.data, args.out)
    recipe = ["--recipe", str(RECIPE), "--data", str(trained), "--init", str(args.encoder)]
    images = [str(path) for path in sorted((trained / "monuseg/train/images").iterdir())]
    commands = {"wsipsm train": [*images, "--mpp", "0.25", "--stain", "he"], "shipped recipe": recipe}
    opened = open_set(SetName.MONUSEG, scored)
    for name, command in commands.items():
        weights = args.out / f"{name.replace(' ', '-')}.safetensors"
        if not weights.is_file():
            work = ["--work", str(weights.with_suffix(".work"))]
            subprocess.run([_COMMAND, "train", *command, "--out", str(weights), *work], check=True)
        report = run_bench(opened, [BuiltIn.WSIPSM], model=str(weights), announce=lambda line: print(line, flush=True))
        print(f"{name}\n{markdown(report)}", flush=True)


def _split(data: Path, out: Path) -> tuple[Path, Path]:
    """Link the images to train on, and the others with their annotations, into two folders."""
    source = data.resolve() / "monuseg" / "train"
    trained, scored = out / "trained", out / "scored"
    for n, image in enumerate(sorted((source / "images").glob("*.tif"))):
        if n % _EVERY == 0:
            _link(image, trained / "monuseg" / "train" / "images")
        else:
            _link(image, scored / "images")
            _link(source / "labels_png" / f"{image.stem}.png", scored / "labels_png")
    _link(data.resolve() / "slides", trained)
    return trained, scored


def _link(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / path.name
    if not link.is_symlink():
        link.symlink_to(path)


if __name__ == "__main__":
    main()
