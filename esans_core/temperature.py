"""Temperatures of the softmax, one for each user (after Adap-tau, WWW 2023, arXiv 2302.04775)."""

import math

import torch
from torch import Tensor, nn

from esans_core.parts import Part, StepOutcome

_BRANCH_POINT = -1 / math.e


class AdaptiveTemperature(nn.Module):
    """A temperature for each user: tau_u = tau_0 exp(W(max(-1/e, (L_u - m) / beta))), with W the Lambert function.

    L_u is the mean loss of the user's events in the epoch before, with every score taken at temperature 1, and m is the mean
    of L_u over users. A user who is fitted worse than the average gets a higher temperature, so a softer softmax and smaller
    gradients. In the first epoch, and for a user without a loss yet, the temperature is tau_0.

    The formula is the closed form of a minimum. With sigma_u = tau_0 / tau_u, the objective of SuperLoss (Castells et al.,
    NeurIPS 2020, with lambda = beta / 2), from which Adap-tau takes it, is

        (L_u - m) sigma_u + beta / 2 (log sigma_u)^2,

    and its minimum is at sigma_u = exp(-W((L_u - m) / beta)). Scores are multiplied by sigma_u / tau_0. The authors' code
    calls this factor the temperature, so W has the opposite sign there. Below -1/e there is no minimum. The argument is
    therefore held at -1/e, so no temperature is below tau_0 / e. There is no upper bound.

    Args:
        temperature: tau_0.
        num_users: U.
        spread: beta; larger values keep the temperatures closer together.
    """

    def __init__(self, temperature: float, num_users: int, *, spread: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.spread = temperature, spread
        self.register_buffer("per_user", torch.full((num_users,), temperature))
        self.register_buffer("_loss", torch.zeros(num_users))
        self.register_buffer("_count", torch.zeros(num_users))

    per_user: Tensor
    _loss: Tensor
    _count: Tensor

    @torch.no_grad()
    def observe(self, users: Tensor, loss_B: Tensor) -> None:
        """Add the loss of each event to its user.

        Args:
            users: int64 [B], rows of the users.
            loss_B: float [B], loss of each event with scores at temperature 1, so that it does not depend on the user's own.
        """
        self._loss.index_add_(0, users, loss_B.to(self._loss.dtype))
        self._count.index_add_(0, users, torch.ones_like(loss_B, dtype=self._count.dtype))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Set every user's temperature from the losses observed, and forget them."""
        seen = self._count > 0
        if bool(seen.any()):
            mean = self._loss / self._count.clamp_min(1)
            excess = torch.where(seen, mean - mean[seen].mean(), 0.0) / self.spread
            self.per_user.copy_(self.temperature * torch.exp(lambert_w(excess)))
        self._loss.zero_()
        self._count.zero_()


class UserTemperature(Part):
    """The temperature of each user as a part of a training step.

    Args:
        temperature: tau_0.
        num_users: U.
    """

    def __init__(self, temperature: float, num_users: int) -> None:
        super().__init__()
        self.rule = AdaptiveTemperature(temperature, num_users)

    def of(self, user_rows: Tensor | None) -> Tensor:
        """float32 [b, 1], temperatures of users, int64 [b].

        Raises:
            ValueError: the rows of the users are missing.
        """
        if user_rows is None:
            raise ValueError("an adaptive temperature needs user_rows: give the objective BatchPart(user_rows=...)")
        return self.rule.per_user[user_rows][:, None]

    def observe(self, outcome: StepOutcome) -> None:
        """See `Part`."""
        self.rule.observe(outcome.users_B, outcome.unit_loss_B)

    def end_epoch(self) -> None:
        """See `Part`."""
        self.rule.end_epoch()


def lambert_w(x: Tensor) -> Tensor:
    """The principal branch of w exp(w) = x, computed in float64. Below -1/e there is none; such an x counts as -1/e."""
    z = x.double().clamp_min(_BRANCH_POINT)
    # It starts from the series about the branch point if x is small, and otherwise from log(1 + x). Halley's steps follow.
    root = torch.sqrt(2 * (math.e * z + 1).clamp_min(0))
    w = torch.where(z < 0.5, -1 + root - root**2 / 3, torch.log1p(z.clamp_min(0)))
    for _ in range(12):
        exp_w = torch.exp(w)
        error = w * exp_w - z
        slope = exp_w * (w + 1) - (w + 2) * error / (2 * w + 2)
        w = w - torch.where(error == 0, 0.0, error / torch.where(slope == 0, 1.0, slope))
    return w.nan_to_num(-1.0).to(x.dtype)
