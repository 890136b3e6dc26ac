"""Forty pictures, two at a time: `python -m tests.visualize.rendering.long_job FOLDER`, to be killed."""

import sys

from diffprog.visualize import channel, render_all
from tests.visualize import small


def run(folder):
    places = [(factor, index) for factor in range(1, 11) for index in range(4)]
    units = {f"{factor}-{index}": factor * channel("units", index) for factor, index in places}
    render_all(small.model(), units, folder, name="lucid", size=12, steps=5, batch_size=2)


if __name__ == "__main__":
    run(sys.argv[1])
