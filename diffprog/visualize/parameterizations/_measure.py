"""Measure the photographs of a folder, as `natural.npz` was made of those that `natural.txt` lists.

python -m diffprog.visualize.parameterizations._measure FOLDER --out natural.npz
"""

import argparse
from pathlib import Path

import numpy as np

from diffprog import images as files
from diffprog._util.files import replacing
from diffprog.visualize.parameterizations._colors import colors_of, covariance_of
from diffprog.visualize.parameterizations._natural_statistics import slope_of, spectrum_of


def main():
    parser = argparse.ArgumentParser(description="Measure what the photographs of a folder have in common.")
    parser.add_argument("folder", type=Path, help="of image files, and nothing else")
    parser.add_argument("--side", type=int, default=384, help="pixels, to which the shorter side is reduced first")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .npz")
    options = parser.parse_args()
    paths = sorted(options.folder.iterdir())
    images = [files.resize_short_side(files.read_image(path), options.side) for path in paths]
    slope, covariance = slope_of(images), covariance_of(images)
    with replacing(options.out) as file:
        np.savez_compressed(file, spectrum=spectrum_of(images), slope=slope, covariance=covariance)
    print(f"{len(images)} photographs; slope of the spectrum {slope:.3f}")
    print(f"colors\n{colors_of(images).round(2)}\ncovariance of colors\n{covariance.round(4)}")


if __name__ == "__main__":
    main()
