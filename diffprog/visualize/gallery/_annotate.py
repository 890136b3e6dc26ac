"""Dataset examples, scores and neighbors for the cards of a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from tqdm import tqdm

from diffprog.images._files import with_channels
from diffprog.models import Model
from diffprog.visualize.evaluation import score
from diffprog.visualize.evaluation._dataset_examples import Photographs, top_activating_crops
from diffprog.visualize.gallery._cards import read_cards, save_card
from diffprog.visualize.objectives import class_of
from diffprog.visualize.objectives._base import Objective
from diffprog.visualize.transforms import lucid


def annotate(
    model: Model,
    objectives: Mapping[str, Objective],
    folder: str | Path,
    photographs: Photographs,
    *,
    num_crops: int = 6,
    networks: Sequence[Model] = (),
    progress: str | None = None,
) -> None:
    """Put the user's own images beside the pictures of `render_all`, and score the pictures against them.

    Pictures are measured under the transforms `lucid`. Each card is written anew, whole or not at all.

    Args:
        model: The network that the pictures were drawn for.
        objectives: {unit: objective} of the cards in `folder`. Cards of other units are left alone.
        folder: A folder of cards.
        photographs: A folder of images, or a list, as for `top_activating_crops`.
        num_crops: Crops to show for each unit.
        networks: Other networks, to which the pictures of classes are shown.
        progress: Caption of progress bars; None for no bars.
    """
    cards = [card for card in read_cards(folder) if card.unit in objectives]
    pictures = {card.unit: with_channels(card.picture, model.channels, card.unit) for card in cards}
    for size in sorted({card.picture.shape[:2] for card in cards}):
        same_size = [card for card in cards if card.picture.shape[:2] == size]
        examples = top_activating_crops(
            model,
            [objectives[card.unit] for card in same_size],
            photographs,
            num_crops=num_crops,
            size=size,
            progress=progress and f"{progress}: dataset examples at {size[0]} x {size[1]} pixels",
        )
        neighbors = examples.neighbors()
        bar = tqdm(same_size, desc=progress and f"{progress}: scores", disable=progress is None, unit="picture")
        for index, card in enumerate(bar):
            label = class_of(objectives[card.unit])
            rendering = SimpleNamespace(images=pictures[card.unit][None], scores=np.reshape(card.history, (-1, 1)))
            scores = score(
                model,
                objectives[card.unit],
                rendering,
                examples,
                key=jax.random.key(card.seed or 0),
                transform=lucid,
                objective_index=index,
                networks=networks if label is not None else (),
                label=label,
            )
            annotated = replace(
                card,
                scores=scores.numbers(),
                dataset_examples=list(examples.pictures[index]),
                neighbors=[same_size[other].unit for other in neighbors[index]],
            )
            save_card(folder, annotated)
