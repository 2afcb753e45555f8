"""What each value of ``vision.top_down`` does: AbSViT, its baselines and its ablations on one trunk [AbS 2.6].

The facts that configs, models and tasks share; the formulas are in ``models/top_down.py`` and ``models/attention``.
"""

from typing import Literal, NamedTuple

TopDown = Literal["none", "perceiver_io", "feedback", "mask_att", "absvit", "absvit_qkv"]


class Variant(NamedTuple):
    """What a visual encoder does after its first look."""

    label: str  # its name in the paper
    uses_prior: bool  # tokens count by how well they agree with a prior
    feeds_back: bool  # decoders, trained to reconstruct, make a top-down input for every block that looks again
    looks_twice: bool  # the trunk runs a second time

    @property
    def looks_again_for_the_text(self) -> bool:
        """Whether there is a second look, and the text changes it."""
        return self.uses_prior and self.looks_twice


VARIANTS: dict[TopDown, Variant] = {
    "none": Variant("ViT", uses_prior=False, feeds_back=False, looks_twice=False),
    "perceiver_io": Variant("PerceiverIO", uses_prior=True, feeds_back=False, looks_twice=False),
    "feedback": Variant("Feedback", uses_prior=False, feeds_back=True, looks_twice=True),
    "mask_att": Variant("MaskAtt", uses_prior=True, feeds_back=False, looks_twice=True),
    "absvit": Variant("AbSViT", uses_prior=True, feeds_back=True, looks_twice=True),
    "absvit_qkv": Variant("AbSViT-QKV", uses_prior=True, feeds_back=True, looks_twice=True),
}
