"""What a saved classifier must be given to predict as it was trained to."""

from dataclasses import dataclass

from pairpref.params import POINTWISE, Attention, Member
from pairpref.text.compose import Cut


@dataclass(frozen=True)
class InferenceConfig:
    """Fields with a default are missing in older bundles, which then predict as they always did."""

    pooling: str  # this and max_length: as in the params section `model`
    max_length: int
    single: bool  # trained on single texts, not on pairs
    threads: int  # of the process that trained it; another number gives other last bits
    clean: dict[str, bool]  # the switches utf8 and flatten its texts were cleaned by
    prior: tuple[float, float, float]  # shares of A, B and tie among its training votes
    class_weights: tuple[float, float, float]  # in its loss; its probabilities are corrected
    attention: Attention = "auto"  # see `attention.fuse`
    exact: bool = True  # trained by algorithms that give the same bits again
    member: Member = "classifier"
    truncation: str = "longest_first"  # this and the next two: as in the params section `text`
    windows: int = 1
    stride: float = 0.5
    features: bool = False  # given what is counted in a pair (see `heads.Counted`)
    judged_length: int | None = None  # most tokens when it predicts; None: max_length

    @property
    def ordered(self) -> bool:
        """Whether it matters which answer is shown first."""
        return not self.single and self.member not in POINTWISE

    @property
    def cut(self) -> Cut:
        return Cut(self.truncation, self.windows, self.stride)

    @property
    def longest(self) -> int:
        """Most tokens of an input when it predicts."""
        return self.judged_length or self.max_length
