"""Skip denoising steps whose answer is nearly known.

A skipped step runs no block, VACE's included. Between two steps the blocks' whole contribution (the output norm's
input, less the patch embedding) changes little. A skipped step adds the last computed contribution to its own
embedding. The contribution already holds the hints, so no hint is added again. diffusers' FirstBlockCache and MagCache
keep the blocks' outputs with the hints inside, and the model then adds the hints once more.

The first block's modulated input, by timestep and latents, moves from step to step. Steps are skipped while those
relative moves add up to less than a threshold (TeaCache, Liu et al. 2024, without its fitted polynomials).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faceid.models.compute.context_parallel import TokenShare
from faceid.models.wan_vace.transformer import all_blocks, hint_blocks


@dataclass
class _Pass:
    """The state kept for one kind of forward pass (conditional, unconditional, a window's)."""

    modulated: Tensor | None = None
    moved: float = 0.0
    contribution: Tensor | None = None
    """[B, tokens, I], float32."""


class StepCache:
    """A cache on a transformer until `remove`. It counts passes: `computed` and `skipped`."""

    def __init__(self, transformer: Any, threshold: float, share: TokenShare | None = None) -> None:
        """threshold: limit for the summed relative moves; 0 skips a step only when nothing moved at all.

        share: set where each process has a share of the tokens; all of them then decide as one.
        """
        self.transformer, self.threshold, self.share = transformer, threshold, share
        self.computed = self.skipped = 0
        self._passes: dict[Hashable, _Pass] = {}
        self._current, self._may_skip = _Pass(), True
        self._is_skipped, self._embedded = False, torch.empty(0)
        blocks = all_blocks(transformer)
        # Another hook may hide the class's own forward already.
        self._before = [(block, block.__dict__.get("forward")) for block in blocks]
        for number, block in enumerate(hint_blocks(transformer)):
            block.forward = self._hint_forward(block.forward, is_first=number == 0)
        for number, block in enumerate(transformer.blocks):
            block.forward = self._main_forward(block.forward, is_first=number == 0)
        self._hook = transformer.norm_out.register_forward_pre_hook(self._keep)

    def begin(self, key: Hashable, may_skip: bool) -> None:
        """Say which pass the next forward is. may_skip: False at the first and the last step, which matter most."""
        self._current, self._may_skip = self._passes.setdefault(key, _Pass()), may_skip

    def remove(self) -> None:
        """Give the transformer back unchanged."""
        for block, forward in self._before:
            if forward is None:
                del block.forward
            else:
                block.forward = forward
        self._hook.remove()

    def _decide(self, hidden_states: Tensor, timestep_proj: Tensor) -> None:
        """Decide at the first VACE block, which runs first. hidden_states: embedded latents [B, tokens, I]."""
        block, known = self.transformer.blocks[0], self._current
        shift, scale = (block.scale_shift_table + timestep_proj.float())[:, :2].unbind(1)
        modulated = block.norm1(hidden_states.float()) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
        if known.modulated is not None and known.modulated.shape == modulated.shape:
            sums = torch.stack([(modulated - known.modulated).abs().sum(), known.modulated.abs().sum()])
            moved, size = (sums if self.share is None else self.share.sum_over_all(sums)).tolist()
            known.moved += moved / size if size else float(moved > 0)
        known.modulated = modulated
        fits = known.contribution is not None and known.contribution.shape == hidden_states.shape
        self._is_skipped = fits and self._may_skip and known.moved <= self.threshold
        self._embedded = hidden_states
        if self._is_skipped:
            self.skipped += 1
        else:
            known.moved = 0.0
            self.computed += 1

    def _hint_forward(self, forward: Any, is_first: bool) -> Any:
        def run(hidden_states: Tensor, text: Tensor, control: Tensor, timestep_proj: Tensor, rotary: Any) -> Any:
            if is_first:
                self._decide(hidden_states, timestep_proj)
            if self._is_skipped:
                return hidden_states.new_zeros(1, 1, 1), control
            return forward(hidden_states, text, control, timestep_proj, rotary)

        return run

    def _main_forward(self, forward: Any, is_first: bool) -> Any:
        def run(hidden_states: Tensor, *others: Any) -> Tensor:
            if not self._is_skipped:
                return forward(hidden_states, *others)
            if not is_first:
                return hidden_states
            contribution = self._current.contribution
            assert contribution is not None
            return (hidden_states.float() + contribution).to(hidden_states.dtype)

        return run

    def _keep(self, module: Any, args: tuple[Tensor, ...]) -> None:
        if not self._is_skipped:
            self._current.contribution = args[0].detach().float() - self._embedded.float()
