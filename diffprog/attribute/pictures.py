"""Pictures of attributions: signed maps, sheets, films, stacks; words, tables and programs for a terminal and a page.

Maps and charts are float32 arrays (height, width, 3) in [0, 1], for `diffprog.images.save_png`. Words, bars and
listings are `Drawn`: `print` writes them into a terminal, a notebook shows them, and `save` writes a page.
"""

from diffprog.attribute._draw.bars import bars, listing
from diffprog.attribute._draw.charts import film, strip
from diffprog.attribute._draw.draw import draw, heatmap, sheet
from diffprog.attribute._draw.drawn import Drawn
from diffprog.attribute._draw.words import pairs, similarity, words

__all__ = ["Drawn", "bars", "draw", "film", "heatmap", "listing", "pairs", "sheet", "similarity", "strip", "words"]
