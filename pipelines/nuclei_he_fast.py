"""Recipe of ``nuclei-he-fast``: a student of ``nuclei-he`` that works at 0.5 um/px, on a quarter of the pixels.

python pipelines/nuclei_he_fast.py DATA nuclei-he nuclei-he-fast.safetensors

The second argument is the teacher: a shipped name, or a file with its card beside it. A killed run goes on where it was
when it is started again.
"""

from __future__ import annotations

from dataclasses import replace

from nuclei_he import ANY_SCAN, make_recipe
from recipe import parse_arguments, read_images, tell_step

from wsipsm.models.card import ModelCard
from wsipsm.models.registry import resolve_model
from wsipsm.models.weights import build_network, save_model
from wsipsm.training.distil import DistilOptions, distil_student

# Half the blur: the student's pixels are twice as wide.
DISTIL = DistilOptions(augment=replace(ANY_SCAN, scale=(0.7, 1.4), blur_sigma_px=(0.25, 1.0)))

MIN_DISTANCE = 0.5
"""Below the teacher's: coarse pixels show less of a small nucleus' middle. Chosen on ten images (docs/accuracy.md)."""


def fast_card(teacher: ModelCard, name: str, seed: int) -> ModelCard:
    """Give the teacher's card at the coarser pixel size; lengths in pixels shrink with it."""
    decode = teacher.decode.model_copy(
        update={
            "distance_sigma_px": teacher.decode.distance_sigma_px / DISTIL.shrink,
            "peak_radius_px": round(teacher.decode.peak_radius_px / DISTIL.shrink),
            "min_distance": MIN_DISTANCE,
        }
    )
    training = {"labels": "none", "teacher": teacher.sha256[:12], "steps": DISTIL.steps, "seed": seed}
    changes = {
        "name": name,
        "architecture": "nucleus-unet-fine",
        "mpp": teacher.mpp * DISTIL.shrink,
        "decode": decode,
        "training": training,
        "scores": {},
    }
    return teacher.model_copy(update=changes)


def main() -> None:
    """Train and write the model and its card."""
    given = parse_arguments(__doc__)
    weights, teacher = resolve_model(given.encoder)
    recipe = make_recipe(sorted((given.data / "monuseg/train/images").glob("*.tif")), given.seed)
    keep = given.out.with_suffix(".work") / "student"
    keep.parent.mkdir(parents=True, exist_ok=True)
    pixels = [image.rgb for image in read_images(recipe)]
    network = build_network(teacher, weights)
    student = distil_student(pixels, network, replace(DISTIL, seed=given.seed), tell_step, keep)
    save_model(given.out, student.state_dict(), fast_card(teacher, given.out.stem, given.seed))


if __name__ == "__main__":
    main()
