"""Natural examples, scores and neighbors for the cards of a folder."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
from tqdm import tqdm

from diffprog.visualize.evaluation import score
from diffprog.visualize.evaluation._dataset_examples import top_activating_crops
from diffprog.visualize.gallery._cards import card_path, read_cards, save_card
from diffprog.visualize.objectives._units import class_of
from diffprog.visualize.transforms import lucid


def complete(model, objectives, folder, photographs, *, count=6, networks=(), progress=None):
    """Put the user's own images beside the pictures of `render_all`, and score these against them.

    objectives:  {unit: objective}, whose cards are in `folder`.
    photographs: a folder of images, or a list, as for `top_activating_crops`; `count` of their crops
                 are shown for each unit.
    networks:    other networks, to which the pictures of classes are shown.
    progress:    a caption, which switches on progress bars.

    Each card is written anew, whole or not at all. Pictures are measured under the transforms `lucid`.
    """
    paths = {card_path(folder, unit): unit for unit in objectives}
    cards = [card for card in read_cards(folder) if paths.get(card_path(folder, card.unit)) == card.unit]
    for size in sorted({card.picture.shape[0] for card in cards}):
        same = [card for card in cards if card.picture.shape[0] == size]
        natural = top_activating_crops(
            model,
            [objectives[card.unit] for card in same],
            photographs,
            num_crops=count,
            size=size,
            progress=progress and f"{progress}: natural examples at {size} pixels",
        )
        neighbors = natural.neighbors()
        caption = progress and f"{progress}: scores"
        for number, card in enumerate(tqdm(same, desc=caption, disable=progress is None, unit="picture")):
            label = class_of(objectives[card.unit])
            drawn = SimpleNamespace(images=card.picture[None], scores=np.reshape(card.history, (-1, 1)))
            found = score(
                model,
                objectives[card.unit],
                drawn,
                natural,
                key=jax.random.key(card.seed or 0),
                transform=lucid,
                objective_index=number,
                networks=networks if label is not None else (),
                label=label,
            )
            save_card(
                folder,
                replace(
                    card,
                    scores=found.numbers(),
                    natural=list(natural.pictures[number]),
                    neighbors=[same[other].unit for other in neighbors[number]],
                ),
            )
