"""The search for phrases: on losses that are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceid.description.phrases import Phrases
from faceid.description.search import find_phrases

PHRASES = Phrases(
    {
        "hair": tuple(f"hair {n}" for n in range(40)),
        "hat": tuple(f"hat {n}" for n in range(3)),
        "noise": ("noise 0", "noise 1"),
    }
)
SAMPLES = 16


class Known:
    """Losses where hair 17 and hat 2 are right, and hat 2 is seen only beside the right hair; noise says nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        self.asked += len(prompts)
        return torch.stack([self._loss(prompt) for prompt in prompts])

    def _loss(self, prompt: str) -> Tensor:
        said = set(prompt.removeprefix("somebody").removeprefix(" with ").split(", "))
        # What a phrase of noise changes comes to little over all samples.
        generator = torch.Generator().manual_seed(sum(one.startswith("noise") for one in said))
        noise = torch.randn(SAMPLES, generator=generator)
        loss = 1 + 0.001 * (noise - noise.mean())
        loss -= 0.3 * ("hair 17" in said) + 0.1 * ({"hair 17", "hat 2"} <= said)
        return loss + 0.05 * any(one.startswith("hair") and one != "hair 17" for one in said)


def test_the_right_phrases_are_found_and_those_that_say_nothing_left_out():
    found = find_phrases(PHRASES, "somebody", Known(), Known())
    assert found.phrases == {"hair": "hair 17", "hat": "hat 2"}
    assert found.loss_before > 0.99 and found.loss_after < 0.61


def test_all_phrases_are_tried_quickly_and_the_best_carefully():
    quick, careful = Known(), Known()
    find_phrases(PHRASES, "somebody", quick, careful)
    assert quick.asked == sum(1 + len(of) for of in PHRASES.groups.values())
    assert careful.asked == (1 + 8) + (1 + 3) + (1 + 2) + 2


def test_more_samples_decide_among_the_best():
    """What is best by few samples is not best by all."""

    class Misled(Known):
        def __call__(self, prompts: Sequence[str]) -> Tensor:
            misled = [0.5 * ("hair 3" in prompt.removeprefix("somebody with ").split(", ")) for prompt in prompts]
            return super().__call__(prompts) - torch.tensor(misled).unsqueeze(1)

    assert find_phrases(PHRASES, "somebody", Misled(), Known()).phrases == {"hair": "hair 17", "hat": "hat 2"}


def test_a_group_may_help_only_beside_another_that_comes_later():
    later = Phrases({"hat": PHRASES.groups["hat"], "hair": PHRASES.groups["hair"]})
    assert find_phrases(later, "somebody", Known(), Known()).phrases == {"hat": "hat 2", "hair": "hair 17"}


def test_nothing_is_said_where_nothing_helps():
    nothing = Phrases({"noise": PHRASES.groups["noise"]})
    found = find_phrases(nothing, "somebody", Known(), Known())
    assert found.phrases == {}


def test_a_phrase_has_to_gain_two_standard_errors():
    class Noisy(Known):
        """The hat gains as much on average, and on each sample what chance gives."""

        def __init__(self, gain: float) -> None:
            super().__init__()
            self.gain = gain

        def _loss(self, prompt: str) -> Tensor:
            noise = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
            noise = (noise - noise.mean()) / noise.std() * SAMPLES**0.5
            return 1 - ("hat 1" in prompt) * (self.gain + noise)

    hats = Phrases({"hat": ("hat 0", "hat 1")})
    said = {gain: find_phrases(hats, "somebody", Known(), Noisy(gain)).phrases for gain in (1.8, 2.2)}
    assert said == {1.8: {}, 2.2: {"hat": "hat 1"}}


def test_what_is_unsure_stays_said_while_others_are_chosen():
    """The right hair is seen only beside the hat, of which few samples are unsure."""

    class BesideTheHat(Known):
        def __init__(self, spread: float) -> None:
            super().__init__()
            self.spread = spread

        def _loss(self, prompt: str) -> Tensor:
            said = set(prompt.removeprefix("somebody").removeprefix(" with ").split(", "))
            noise = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(0))
            has_hat, has_right_hair = "hat 2" in said, "hair 17" in said
            hair = 0.3 * has_right_hair if has_hat else -0.2 * has_right_hair
            return 1 - has_hat * (0.1 + self.spread * (noise - noise.mean())) - hair

    beside = Phrases({"hat": PHRASES.groups["hat"], "hair": PHRASES.groups["hair"]})
    found = find_phrases(beside, "somebody", BesideTheHat(spread=1.0), BesideTheHat(spread=0.01))
    assert found.phrases == {"hat": "hat 2", "hair": "hair 17"}
