import pytest
import torch

from cp2.models.backbones import resize_positions


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, the one of PyTorch's bicubic without antialiasing."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * (d**3 - 5 * d**2 + 8 * d - 4)
    return 0.0


def weights(old: int, new: int) -> torch.Tensor:
    """(new, old) matrix of a bicubic resize along one axis, borders repeated."""
    matrix = torch.zeros(new, old)
    for i in range(new):
        centre = (i + 0.5) * old / new - 0.5
        for tap in range(int(centre // 1) - 1, int(centre // 1) + 3):
            matrix[i, min(max(tap, 0), old - 1)] += cubic(centre - tap)
    return matrix


@pytest.mark.parametrize("new", [(4, 4), (3, 5), (2, 2), (9, 6), (1, 8)])
def test_resize_equals_the_formula(new):
    embedding = torch.randn(1, 1 + 16, 3, generator=torch.Generator().manual_seed(1))
    resized = resize_positions(embedding, (4, 4), new)
    grid = embedding[0, 1:].reshape(4, 4, 3)
    expected = torch.einsum("yr,xc,rcd->yxd", weights(4, new[0]), weights(4, new[1]), grid)
    assert resized.shape == (1, 1 + new[0] * new[1], 3)
    torch.testing.assert_close(resized[:, :1], embedding[:, :1], rtol=0, atol=0)
    torch.testing.assert_close(resized[0, 1:], expected.reshape(-1, 3), rtol=1e-4, atol=1e-5)


def test_resize_keeps_half_precision_and_gradients():
    embedding = torch.randn(1, 5, 3, dtype=torch.bfloat16, requires_grad=True)
    resized = resize_positions(embedding, (2, 2), (3, 3))
    assert resized.dtype == torch.bfloat16
    resized.float().square().sum().backward()
    assert embedding.grad is not None
    assert (embedding.grad != 0).all()
