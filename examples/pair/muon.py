"""Muon (Jordan et al., 2024): momentum whose update is made orthogonal.

In float32: torch's own Muon works in bfloat16, which most CPUs only emulate.
"""

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: singular values land between 0.7 and 1.2. [..., rows, columns]."""
    a, b, c = COEFFICIENTS
    wide = matrix.size(-2) <= matrix.size(-1)
    x = (matrix if wide else matrix.mT) / (torch.linalg.matrix_norm(matrix, keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """For weight matrices alone, or stacks of them; embeddings, norms and biases want AdamW."""

    def __init__(
        self, matrices: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.05
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(mean, group["momentum"]))
                scale = max(1.0, matrix.size(-2) / matrix.size(-1)) ** 0.5
                matrix.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"] * scale)
