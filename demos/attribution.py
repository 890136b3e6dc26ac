"""Show where a network's answer comes from: many methods on one photograph, side by side.

    python -m demos.attribution
    python -m demos.attribution my_photo.jpg --class tabby --against lynx --method integrated_gradients
    python -m demos.attribution --text "A cat sits on the mat." "A kitten is resting on a rug."
    python -m demos.attribution --list-methods

The command `diffprog attribute`, run from a clone.
"""

from diffprog.cli._attribute import main

if __name__ == "__main__":
    main(prog="python -m demos.attribution")
