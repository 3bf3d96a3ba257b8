"""The chain of a recipe's trainings. Each finished one is stored, so that a chain that was killed can be continued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsipsm.errors import UsageError
from wsipsm.models.card import OUTPUTS
from wsipsm.models.unet import NucleusUnet
from wsipsm.rundir import digest, output_error, write_aside
from wsipsm.training.checkpoint import digest_arrays, digest_state
from wsipsm.training.consistency import train_consistency
from wsipsm.training.distil import distil_student
from wsipsm.training.fit import Progress
from wsipsm.training.pseudo_labels import StainedImage, make_pseudo_labels
from wsipsm.training.recipe import WORKING_MPP, Recipe
from wsipsm.training.rounds import relabel_images
from wsipsm.training.student import PseudoLabelledImage, StudentOptions, train_student

Weights = dict[str, Tensor]
_REPORTED_EVERY = 20
"""Number of steps between two reports."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The trainings of a recipe, with their images and their folder."""

    folder: Path
    """Folder of the finished trainings, whose names have a hash of all that shapes them, and of the running one's
    checkpoint."""
    recipe: Recipe
    images: Sequence[StainedImage]
    """Images of all trainings."""
    consistency_images: Sequence[NDArray[np.uint8]]
    """Further images for consistency distillation alone, shape (h, w, 3), uint8."""
    report: Callable[[str], None]
    """Function that is called with lines of text on the progress."""

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """Pixels of the images, without the stain profiles."""
        return [image.rgb for image in self.images]

    @property
    def n_outputs(self) -> int:
        """Number of the network's output channels."""
        return len(OUTPUTS[self.recipe.stain])

    def run(self, start: Weights) -> NucleusUnet:
        """Run every training of the recipe.

        Parameters
        ----------
        start
            Weights to start from, by name. Those whose shape fits are taken, the others are random; a recipe without a
            first round needs all weights of the network.

        Returns
        -------
        The finished network in evaluation mode, on the processor; with a fine head where the recipe distils.

        Raises
        ------
        UsageError
            When a round finds no nucleus in any image.
        ModelError
            When a checkpoint is damaged.
        OutputError
            When the folder is not writable, or its disk is full.
        """
        network = self._first(start)
        for number in range(1, len(self.recipe.rounds) + 1):
            network = self._further(number, network)
        return self._train_faster(self._train_consistency(network))

    def _first(self, start: Weights) -> NucleusUnet:
        recipe = self.recipe
        if not recipe.first.steps:
            network = NucleusUnet(self.n_outputs)
            network.load_state_dict(start)
            return network.eval()
        profiles = digest([image.profile for image in self.images])
        return self.train_student(
            "first round",
            recipe.first_options(),
            start,
            lambda: make_pseudo_labels(self.images, recipe.stain, recipe.seed, self.report, recipe.first.beta),
            f"beta {recipe.first.beta} profiles {profiles}",
        )

    def _further(self, number: int, network: NucleusUnet) -> NucleusUnet:
        further = self.recipe.rounds[number - 1]
        labels = self.recipe.round_labels(further)
        return self.train_student(
            f"self-training round {number}",
            self.recipe.round_options(number, further.steps),
            network.state_dict(),
            lambda: relabel_images(self.pixels, network, WORKING_MPP, labels, self.report),
            labels,
        )

    def train_student(
        self,
        name: str,
        options: StudentOptions,
        start: Weights,
        label: Callable[[], list[PseudoLabelledImage]],
        settings: object = "",
    ) -> NucleusUnet:
        """Train a network on pseudo labels, or load it when it was trained before.

        Parameters
        ----------
        name
            Name of the training, for its files and its lines of progress.
        options, start
            Settings and first weights of the training.
        label
            Function that makes the pseudo labels; it is called only where the training was not finished before.
        settings
            Settings of the pseudo labels; a training with other ones is not continued.

        Returns
        -------
        The network in evaluation mode, on the processor.

        Raises
        ------
        UsageError, ModelError, OutputError
            As for :meth:`run`.
        """
        identity = digest(
            {"pixels": digest_arrays(self.pixels), "options": f"{options} {settings}", "start": digest_state(start)}
        )
        done = self._path(name, identity).with_suffix(".safetensors")
        if not done.exists():
            self.report(f"{name}: making pseudo labels")
            labelled = label()
            if not any(image.label.instances.any() for image in labelled):
                raise UsageError(
                    f"train: no nucleus was found in the images for the {name}; tissue with nuclei is needed. "
                    "Check --mpp and --stain; after a round that was too short or failed, train it for more steps."
                )
            keep = done.with_suffix("")
            network = train_student(labelled, self.n_outputs, options, start, self._progress(name), keep, identity)
            with write_aside(done) as temporary:
                save_file({key: value.contiguous() for key, value in network.state_dict().items()}, temporary)
        network = NucleusUnet(self.n_outputs)
        network.load_state_dict(load_file(done))
        return network.eval()

    def _train_consistency(self, network: NucleusUnet) -> NucleusUnet:
        """Run the consistency distillations; one that was finished before is loaded from its last checkpoint."""
        shown, student = [*self.pixels, *self.consistency_images], network
        for number, options in enumerate(self.recipe.consistency_options(), start=1):
            weights = [digest_state(part.state_dict()) for part in (network, student)]
            identity = digest({"pixels": digest_arrays(shown), "options": str(options), "weights": weights})
            name = f"consistency distillation {number}"
            keep = self._path(name, identity)
            student = train_consistency(shown, network, options, self._progress(name), keep, student)
        return student

    def _train_faster(self, network: NucleusUnet) -> NucleusUnet:
        options = self.recipe.distil_options()
        if options is None:
            return network
        weights = digest_state(network.state_dict())
        identity = digest({"pixels": digest_arrays(self.pixels), "options": str(options), "weights": weights})
        name = "distilling"
        return distil_student(self.pixels, network, options, self._progress(name), self._path(name, identity))

    def _path(self, name: str, identity: str) -> Path:
        """Make the folder of a training, and return the training's path without suffix."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        return self.folder / f"{name.replace(' ', '-')}-{identity[:12]}"

    def _progress(self, name: str) -> Progress:
        def progress(step: int, steps: int, loss: float) -> None:
            if step % _REPORTED_EVERY == 0 or step == steps - 1:
                self.report(f"{name}: step {step + 1}/{steps}, loss {loss:.3f}")

        return progress
