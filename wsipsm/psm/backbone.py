"""The activation network: a CNN of timm or a ResNet of torchvision, as four stages of blocks and an embedding z.

Chen et al., "Exploring Unsupervised Cell Recognition with Prior Self-activation Maps", MICCAI 2023, use Res2Net-101
(26w, 4s) with random weights. A stage is named by its depth 1 to 4, which is stride 4 to 32 (their Fig. 3).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from wsipsm.errors import UsageError
from wsipsm.models.vision import import_torchvision

PAPER_NETWORK = "res2net101_26w_4s"
SMALL_NETWORK = "torchvision:resnet18"
"""A network that needs no further package, gives maps of the same kind, and is fast enough for a CPU."""
EMBEDDING_SIZE = 128
"""Number of components of z."""
N_STAGES = 4
_TORCHVISION = "torchvision:"


class _Reached(Exception):
    """The last block that is needed has run, so the rest of the network is skipped."""


class ActivationNetwork(nn.Module):
    """A CNN with random weights that gives the feature maps of a stage's blocks, and an embedding z of the image.

    Parameters
    ----------
    name
        Name of a CNN of timm, or of a ResNet of torchvision such as ``torchvision:resnet18``.
    seed
        Seed of the random weights.
    embedding_size
        Number of components of z. The published code has one, whose similarity loss is nearly 0 before any training.

    Raises
    ------
    UsageError
        When there is no such network, timm is needed and not installed, or the network lacks a stage of stride 4 to 32.
    """

    def __init__(self, name: str = SMALL_NETWORK, seed: int = 0, embedding_size: int = EMBEDDING_SIZE) -> None:
        super().__init__()
        self.name = name
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk, names, width = _open_trunk(name)
            self.embed = nn.Linear(width, embedding_size)
        self._stages = [_blocks_of(self.trunk.get_submodule(stage)) for stage in names]

    def features(self, rgb: Tensor, stage: int) -> list[Tensor]:
        """Compute the feature maps of every block of a stage; later stages are not run.

        Parameters
        ----------
        rgb
            RGB in 0..255, shape (n, 3, h, w).
        stage
            Stage of the network, 1 to 4.

        Returns
        -------
        Maps of each block, shape (n, channels, h / stride, w / stride).

        Raises
        ------
        UsageError
            When there is no such stage.
        """
        found: list[Tensor] = []
        blocks = self._blocks(stage)

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found.append(output)
            if len(found) == len(blocks):
                raise _Reached

        self._run(rgb, blocks, keep)
        return found

    def forward(self, rgb: Tensor, stage: int = 1) -> tuple[list[Tensor], Tensor]:
        """Map RGB in 0..255, shape (n, 3, h, w), to a stage's feature maps, block by block, and z, shape (n, size)."""
        found: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found.append(output)

        pooled = self._run(rgb, self._blocks(stage), keep)
        return found, self.embed(pooled)

    def _blocks(self, stage: int) -> Sequence[nn.Module]:
        if not 1 <= stage <= N_STAGES:
            raise UsageError(f"stage {stage}: there is none; 1 to {N_STAGES} is needed.")
        return self._stages[stage - 1]

    def _run(self, rgb: Tensor, blocks: Sequence[nn.Module], keep: Callable[..., None]) -> Tensor:
        hooks = [block.register_forward_hook(keep) for block in blocks]
        try:
            # Pretext and map get one input scale here. The published code trains on 0..255 and maps images of 0..1.
            pooled: Tensor = self.trunk(rgb / 127.5 - 1.0)
        except _Reached:
            return rgb.new_empty(0)
        finally:
            for hook in hooks:
                hook.remove()
        return pooled


def _open_trunk(name: str) -> tuple[nn.Module, list[str], int]:
    """Build a network without its head; return also its modules at strides 4, 8, 16, 32, and its number of outputs."""
    if name.startswith(_TORCHVISION):
        models = import_torchvision("models")
        kind = name.removeprefix(_TORCHVISION)
        if not kind.startswith("resnet") or kind not in models.list_models():
            raise UsageError(
                f"network {name!r}: unknown; torchvision:resnet18 to resnet152, or a CNN of timm is needed."
            )
        trunk = getattr(models, kind)(weights=None)
        width = trunk.fc.in_features
        trunk.fc = nn.Identity()
        return trunk, [f"layer{stage}" for stage in range(1, N_STAGES + 1)], width
    if ":" in name:  # timm would look for such a name on the internet or in a folder
        raise UsageError(
            f"network {name!r}: names a place; the plain name of a CNN in timm is needed. Check --network."
        )
    timm = import_timm()
    try:
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise UsageError(f"network {name!r}: {error}; the name of a CNN in timm is needed. Check --network.") from error
    by_stride = {info["reduction"]: info["module"] for info in getattr(trunk, "feature_info", [])}
    wanted = [2 ** (stage + 1) for stage in range(1, N_STAGES + 1)]
    if not all(stride in by_stride for stride in wanted):
        raise UsageError(
            f"network {name!r}: has stages at strides {sorted(by_stride)}; a CNN with {wanted} is needed. "
            f"Try {PAPER_NETWORK}."
        )
    return trunk, [by_stride[stride] for stride in wanted], trunk.num_features


def _blocks_of(stage: nn.Module) -> list[nn.Module]:
    """Find the blocks of a stage: its children, or those of its ``blocks`` where it also has a downsampling step."""
    inner = getattr(stage, "blocks", stage)
    blocks = list(inner.children()) if isinstance(inner, (nn.Sequential, nn.ModuleList)) else []
    return blocks or [stage]


def import_timm() -> ModuleType:
    """Import timm, after :func:`import_torchvision` has made the torchvision that it needs importable.

    Raises
    ------
    UsageError
        When timm is not installed.
    """
    import_torchvision("models")
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UsageError(
            "network: timm is not installed; it holds the CNNs of the paper. Run pip install 'wsipsm[psm]', or choose "
            f"--network {SMALL_NETWORK}."
        ) from error
