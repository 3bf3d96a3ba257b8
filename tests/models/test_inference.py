"""What runs a network is chosen once: a GPU where torch can use one, never silently something else."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_in import MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.errors import ModelError
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact
from wsipsm.models import gpu
from wsipsm.models.gpu import gpu_problem
from wsipsm.models.inference import Inference, choose_inference
from wsipsm.models.predict import open_inner_predictor
from wsipsm.models.registry import resolve_model
from wsipsm.results.run_record import RunRecord
from wsipsm.rundir import RunDir
from wsipsm.slide.open import open_slide
from wsipsm.stages.block import load_predictor, segment_block
from wsipsm.stages.plan import SlidePlan, plan_slide
from wsipsm.stages.run import run_slide

ON_CPU, ON_GPU = Inference("openvino", "cpu", "float32"), Inference("torch", "cuda", "float16")
BUILT = ("2.99.0+cu999", True, False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch for CUDA on a machine without a driver, whatever this machine has."""
    monkeypatch.setattr(gpu, "_built_for", lambda: BUILT)
    monkeypatch.setattr(gpu, "_has_driver", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says where it sees two GPUs; no card is needed, and none computes."""
    monkeypatch.setattr(gpu, "_built_for", lambda: BUILT)
    monkeypatch.setattr(gpu, "_has_driver", lambda: True)
    for name, answer in {
        "is_available": True,
        "device_count": 2,
        "get_device_capability": (9, 0),
        "get_device_name": "Drawn GPU",
        "get_arch_list": ["sm_80", "sm_90"],
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_the_gpu() -> None:
    assert choose_inference() == choose_inference("torch") == ON_GPU
    assert choose_inference(device="cuda:1", precision="bfloat16") == Inference("torch", "cuda:1", "bfloat16")
    assert choose_inference(precision="float32") == Inference("torch", "cuda", "float32")


@pytest.mark.usefixtures("two_gpus")
def test_the_processor_can_be_asked_for() -> None:
    assert choose_inference(device="cpu") == choose_inference("openvino") == ON_CPU
    assert choose_inference("torch", device="cpu") == Inference("torch", "cpu", "float32")


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_openvino_where_there_is_no_gpu() -> None:
    assert choose_inference() == ON_CPU
    assert choose_inference("torch") == Inference("torch", "cpu", "float32")


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_the_processor_of_other_machines() -> None:
    assert choose_inference(here=False) == ON_CPU
    assert RunOptions(scheduler="tcp://10.0.0.5:8786").how_to_infer() == ON_CPU
    assert RunOptions().how_to_infer(elsewhere=True) == ON_CPU
    assert RunOptions().how_to_infer() == ON_GPU


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_of_other_machines_is_believed() -> None:
    assert RunOptions(scheduler="tcp://10.0.0.5:8786", device="cuda").how_to_infer() == ON_GPU


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"backend": "onnx"}, "backend 'onnx': unknown; auto, openvino, torch are known"),
        ({"device": "tpu"}, "device 'tpu': unknown; auto, cpu, cuda, cuda:n are known"),
        ({"precision": "int8"}, "precision 'int8': unknown; auto, float32, float16, bfloat16 are known"),
        ({"backend": "openvino", "device": "cuda"}, "device 'cuda': OpenVINO was chosen"),
        ({"device": "cpu", "precision": "float16"}, "precision 'float16': OpenVINO was chosen"),
        ({"device": "cuda:2"}, r"device 'cuda:2' on .*: torch sees 2 GPU\(s\), numbered from 0"),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_what_cannot_be_is_refused(asked: dict[str, str], told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        choose_inference(**asked)
    assert caught.value.option == f"--{told.partition(' ')[0]}"


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 100, 100)
    with pytest.raises(ModelError, match="there is no NVIDIA driver; a GPU that torch can use is needed") as caught:
        run_slide(slide, tmp_path / "out", RunOptions(mpp=MPP, workers=0, device="cuda"), ignore_events)
    assert platform.node() in str(caught.value)
    assert not list(tmp_path.glob("out/*/*.json"))


@pytest.mark.parametrize(
    ("built", "capability", "is_usable"),
    [
        (["sm_80", "sm_90"], (8, 0), True),
        (["sm_80", "sm_90"], (8, 9), True),
        (["sm_86", "sm_90a"], (8, 0), False),
        (["sm_80", "sm_90"], (6, 1), False),
        (["sm_80", "sm_90"], (12, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_without_code_in_torch_is_not_usable(
    monkeypatch: pytest.MonkeyPatch, built: list[str], capability: tuple[int, int], is_usable: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert (gpu_problem("cuda") == "") is is_usable
    assert is_usable or f"Drawn GPU has compute capability {capability[0]}.{capability[1]}" in gpu_problem("cuda")


def test_this_torch_is_read_from_its_file() -> None:
    built = gpu._built_for()
    assert built == (torch.__version__, torch.version.cuda is not None, torch.version.hip is not None)


def test_torch_is_not_loaded_to_find_no_gpu() -> None:
    if not gpu_problem("cuda"):
        pytest.skip("there is a GPU")
    code = "import sys, wsipsm.models.inference as i; i.choose_inference(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("stand_in", "no_gpu")
def test_a_worker_without_the_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, card = resolve_model("nuclei-he")
    with pytest.raises(ModelError, match=rf"'cuda' on {platform.node()}: there is no NVIDIA driver"):
        open_inner_predictor(weights, card, ON_GPU, threads=1)
    plan = _plan(tmp_path, RunOptions(mpp=MPP, scheduler="tcp://10.0.0.5:8786", device="cuda"))
    assert plan.job.inference == ON_GPU
    monkeypatch.setattr("wsipsm.stages.block.load_predictor", load_predictor)  # the network is a real one again
    with pytest.raises(ModelError, match="choose --device cpu"):
        segment_block(replace(plan.job, weights=str(weights), card=card), plan.blocks[0])


def _plan(tmp_path: Path, options: RunOptions) -> SlidePlan:
    with open_slide(draw_slide(tmp_path / "case.png", 300, 300, seed=2), mpp=MPP) as slide:
        return plan_slide(slide, options, RunDir(tmp_path / "out"))


@pytest.mark.usefixtures("stand_in", "two_gpus")
def test_shards_are_those_of_a_device_and_a_format(tmp_path: Path) -> None:
    keys = {
        asked: _plan(tmp_path, RunOptions(mpp=MPP, device=asked[0], precision=asked[1])).job.key
        for asked in (("cpu", "auto"), ("cuda", "auto"), ("cuda:1", "float16"), ("cuda", "float32"), ("auto", "auto"))
    }
    assert keys["cuda", "auto"] == keys["cuda:1", "float16"] == keys["auto", "auto"]
    assert len(set(keys.values())) == 3


@pytest.mark.usefixtures("stand_in")
def test_the_choice_stands_in_run_json(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 300, 300, seed=2)
    summary = run_slide(slide, tmp_path / "out", RunOptions(mpp=MPP, workers=0, device="cpu"), ignore_events)
    run = RunRecord.read(Path(summary.folder) / Artefact.RUN)
    assert (run.options.device, run.options.inference) == ("cpu", ON_CPU)
