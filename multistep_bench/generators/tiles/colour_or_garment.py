"""The paper's variant "colour or garment": the digits decide which property of one target is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers
from multistep_bench.generators.tiles.canvas import Colours, Tile, noisy_tint
from multistep_bench.generators.tiles.indicator import Indicator
from multistep_bench.generators.tiles.two_step import Scene, indicator_labels
from multistep_bench.registry import register_generator

TEN_COLOURS = {  # red, green and blue of the CSS colour of that name, in 1/255
    "brown": (165, 42, 42),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "orange": (255, 165, 0),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "purple": (128, 0, 128),
    "gray": (128, 128, 128),
    "pink": (255, 192, 203),
    "turquoise": (64, 224, 208),
}
PALETTE: Colours = [(red / 255, green / 255, blue / 255) for red, green, blue in TEN_COLOURS.values()]


@register_generator("colour_or_garment")
class ColourOrGarment(Indicator):
    """Both indicators of one group: the class of target A, otherwise the number of A's colour in `TEN_COLOURS`.

        +-------------+-------------+      +-------------+-------------+
        | 1, pink     | bag, blue   |      | 1, pink     | bag, blue   |
        +-------------+-------------+      +-------------+-------------+
        | coat, green | 1, brown    |      | coat, green | 2, brown    |
        +-------------+-------------+      +-------------+-------------+
           same = 1: 8 (bag)                 same = 0: 1 (blue)

    All four tiles are coloured; target B is a distractor. Takes the parameters of `indicator`, and as many target
    classes as there are colours.
    """

    colours: ClassVar[Sequence[str]] = tuple(TEN_COLOURS)
    meaning = (
        "the indicators differ: the colour of target A is asked for",
        "the indicators are alike: the class of target A is asked for",
    )

    def token_name(self, token: int) -> str:
        return f"{super().token_name(token)} or {self.colours[token]}"

    def answer_name(self, token: int, steps: Mapping[str, int]) -> str:
        return super().token_name(token) if steps["same"] else self.colours[token]

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        if self.num_classes != len(TEN_COLOURS):
            raise CardError(
                f"{self.num_classes} target_classes of {self.id} where both answers need one of {len(TEN_COLOURS)}"
                f" labels, as many as colours; give {len(TEN_COLOURS)} classes"
            )

    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        indicators, targets = self.indicators[split], self.targets[split]
        digits = indicators.draw(indicator_labels(self.parameters.indicator_groups, same, rng), rng)
        labels = integers(self.num_classes, len(same), 2, rng=rng)  # B, (A, B)
        garments = targets.draw(labels, rng)
        colours = integers(len(PALETTE), len(same), 4, rng=rng)  # B, roles
        tint = noisy_tint(PALETTE, colours, rng)
        return Scene(
            tiles=(
                Tile(indicators, digits[:, 0], tint[:, 0]),
                Tile(targets, garments[:, 0], tint[:, 1]),
                Tile(targets, garments[:, 1], tint[:, 2]),
                Tile(indicators, digits[:, 1], tint[:, 3]),
            ),
            places=self.arrange(len(same), rng),
            answers=torch.stack((colours[:, 1], labels[:, 0]), 1),
            asked=("target_a", "target_a"),
            colours=colours,
        )
