"""The trainings of a recipe, one after the other; each is kept, so that a killed chain goes on where it was."""

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
"""The number of steps between two reports."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The trainings of a recipe: where they are kept, and what they share."""

    folder: Path
    """The folder of finished trainings, named by what they were made from, and of the running one's checkpoint."""
    recipe: Recipe
    images: Sequence[StainedImage]
    """Images that every training sees."""
    consistency_images: Sequence[NDArray[np.uint8]]
    """Further ones for consistency distillation alone, shape (h, w, 3)."""
    report: Callable[[str], None]
    """Function that is given a line of text now and then."""

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """What is learned from, without its stain profiles."""
        return [image.rgb for image in self.images]

    @property
    def n_outputs(self) -> int:
        """Channels of the network."""
        return len(OUTPUTS[self.recipe.stain])

    def run(self, start: Weights) -> NucleusUnet:
        """Do every training of the recipe.

        Parameters
        ----------
        start
            Weights to start from, by name; those that fit are taken, others are random. A recipe without a first round
            needs all of the network's.

        Returns
        -------
        The finished network in evaluation mode, on the processor; with a fine head where the recipe distils.

        Raises
        ------
        UsageError
            When no nucleus was found to learn from.
        ModelError
            When a checkpoint is damaged.
        OutputError
            When the folder is not writable, or its disk is full.
        """
        network = self._first(start)
        for number in range(1, len(self.recipe.rounds) + 1):
            network = self._further(number, network)
        return self._distilled(self._steadied(network))

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
            Options and first weights of the training.
        label
            Function that makes the pseudo labels, when they are needed.
        settings
            Settings of the pseudo labels; with other ones it is another training.

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
                    "Check --mpp and --stain; after a short or spoiled round, train it for more steps."
                )
            keep = done.with_suffix("")
            network = train_student(labelled, self.n_outputs, options, start, self._progress(name), keep, identity)
            with write_aside(done) as temporary:
                save_file({key: value.contiguous() for key, value in network.state_dict().items()}, temporary)
        network = NucleusUnet(self.n_outputs)
        network.load_state_dict(load_file(done))
        return network.eval()

    def _steadied(self, network: NucleusUnet) -> NucleusUnet:
        """Do the consistency distillations; a finished one goes on from its last checkpoint, and so does nothing."""
        shown, student = [*self.pixels, *self.consistency_images], network
        for number, options in enumerate(self.recipe.consistency_options(), start=1):
            weights = [digest_state(part.state_dict()) for part in (network, student)]
            identity = digest({"pixels": digest_arrays(shown), "options": str(options), "weights": weights})
            name = f"consistency distillation {number}"
            keep = self._path(name, identity)
            student = train_consistency(shown, network, options, self._progress(name), keep, student)
        return student

    def _distilled(self, network: NucleusUnet) -> NucleusUnet:
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
