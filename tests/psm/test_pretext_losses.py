"""Losses of the pretext tasks against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from wsipsm.psm.pretext import (
    Pretext,
    PretextHead,
    contrastive_loss,
    embedding_spread,
    rotation_loss,
    similarity_loss,
    simsiam_loss,
    turned,
)


def embeddings(n: int, seed: int = 0) -> list[Tensor]:
    return list(torch.randn(n, 6, 8, generator=torch.Generator().manual_seed(seed)))


def test_similarity_is_equation_2() -> None:
    a, p = embeddings(2)
    expected = np.mean([sum(abs(x - y) for x, y in zip(u, v, strict=True)) for u, v in zip(a, p, strict=True)])
    assert float(similarity_loss(a, p)) == pytest.approx(expected, rel=1e-6)
    assert float(similarity_loss(a, a)) == 0


@pytest.mark.parametrize("margin", [0.0, 1.0, 10.0])
def test_contrast_is_equation_1(margin: float) -> None:
    a, p, n = (e.numpy() for e in embeddings(3))
    terms = [max(0.0, margin + np.abs(a[i] - p[i]).sum() - np.abs(a[i] - n[i]).sum()) for i in range(6)]
    found = contrastive_loss(*(torch.from_numpy(e) for e in (a, p, n)), margin)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-5)


def test_contrast_far_enough_teaches_nothing() -> None:
    a, n = torch.zeros(2, 4, requires_grad=True), torch.full((2, 4), 9.0)
    loss = contrastive_loss(a, torch.zeros(2, 4), n, margin=10.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not a.grad.any()  # type: ignore[union-attr]


def test_rotation_is_cross_entropy_of_the_turns() -> None:
    head = PretextHead(Pretext.ROTATION, 8)
    (z,) = embeddings(1)
    turns = torch.tensor([0, 1, 2, 3, 1, 0])
    logits = head.classify(z).detach().double().numpy()
    expected = np.mean([np.log(np.exp(row).sum()) - row[turn] for row, turn in zip(logits, turns, strict=True)])
    assert float(rotation_loss(head, z, turns).detach()) == pytest.approx(expected, rel=1e-5)


def test_images_are_turned_by_their_own_number() -> None:
    images = torch.arange(4 * 3 * 5 * 5).reshape(4, 3, 5, 5).float()
    found = turned(images, torch.tensor([0, 1, 2, 3]))
    for turns in range(4):
        assert np.array_equal(found[turns].numpy(), np.rot90(images[turns].numpy(), turns, (1, 2)))


def test_simsiam_learns_nothing_through_its_target() -> None:
    torch.manual_seed(0)
    head = PretextHead(Pretext.SIMSIAM, 8).eval()
    first, second = (e.requires_grad_() for e in embeddings(2))
    loss = simsiam_loss(head, first, second)
    found = torch.autograd.grad(loss, (first, second))

    def loss_with(targets: list[Tensor]) -> Tensor:
        predicted = [head.predict(head.project(e)) for e in (first, second)]
        cosines = [
            (p * t).sum(1) / (p.norm(dim=1) * t.norm(dim=1)) for p, t in zip(predicted, reversed(targets), strict=True)
        ]
        return -(cosines[0].mean() + cosines[1].mean()) / 2

    projected = [head.project(e) for e in (first, second)]
    stopped = torch.autograd.grad(loss_with([p.detach() for p in projected]), (first, second))
    open_ = torch.autograd.grad(loss_with(projected), (first, second))
    for mine, right, wrong in zip(found, stopped, open_, strict=True):
        torch.testing.assert_close(mine, right)
        assert not torch.allclose(mine, wrong)


def test_spread_is_the_mean_deviation_of_components() -> None:
    (z,) = embeddings(1)
    assert embedding_spread(z) == pytest.approx(z.numpy().std(axis=0, ddof=1).mean(), rel=1e-5)
    assert embedding_spread(z[:1]) == 0
    assert embedding_spread(torch.ones(4, 3)) == 0
