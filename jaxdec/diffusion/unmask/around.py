"""Policies around a policy."""

import dataclasses
from typing import Any

import jax

from jaxdec.decoding import Knob, Request
from jaxdec.diffusion.candidates import Candidates, Score
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Around(Unmask):
    """A policy that changes what another one sees: all hooks are the other's, but for those that a subclass writes.

    Attributes:
      policy: the other one.
    """

    policy: Unmask

    @property
    def name(self) -> str:  # type: ignore[override]
        """The policy's."""
        return self.policy.name

    @property
    def by(self) -> Score | None:  # type: ignore[override]
        """The policy's."""
        return self.policy.by

    @property
    def forwards(self) -> int:  # type: ignore[override]
        """The policy's."""
        return self.policy.forwards

    @property
    def reads_text(self) -> bool:  # type: ignore[override]
        """As the policy."""
        return self.policy.reads_text

    @property
    def least_vocabulary(self) -> int:  # type: ignore[override]
        """The policy's."""
        return self.policy.least_vocabulary

    @property
    def knobs(self) -> dict[str, Knob]:
        """The policy's."""
        return self.policy.knobs

    @property
    def value_dependent(self) -> bool:
        """As the policy."""
        return self.policy.value_dependent

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a request or parameters that the policy cannot serve."""
        self.policy.check(request, params)

    def init(self, params: Params, batch: int, window: int) -> Any:
        """The policy's state."""
        return self.policy.init(params, batch, window)

    def begin(self, params: Params, request: Request, state: Any) -> Any:
        """As the policy."""
        return self.policy.begin(params, request, state)

    def renew(self, params: Params, state: Any, fresh: Any) -> Any:
        """The policy's."""
        return self.policy.renew(params, state, fresh)

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """As the policy."""
        return self.policy.choose(params, seen, state, knobs)

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The policy's."""
        return self.policy.patience(params, seen, knobs)

    def progress(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The policy's."""
        return self.policy.progress(params, seen, knobs)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """As the policy guesses."""
        return self.policy.ahead(params, seen, knobs)
