"""Draw what units of a pretrained ImageNet network respond to.

    python -m demos.feature_visualization
    python -m demos.feature_visualization volcano blocks.8:3
    python -m demos.feature_visualization layer blocks.5
    python -m demos.feature_visualization dream photo.jpg

The command `diffprog visualize`, run from a clone.
"""

from diffprog.cli._visualize import main

if __name__ == "__main__":
    main(prog="python -m demos.feature_visualization")
