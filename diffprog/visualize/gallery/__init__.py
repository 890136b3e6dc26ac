"""Pictures of many units as one web page and one contact sheet.

write_gallery("out/gallery", [Card("blocks.5:11", picture, scores=scores.numbers())])
"""

from diffprog.visualize.gallery._annotate import annotate
from diffprog.visualize.gallery._cards import Card, read_cards, save_card
from diffprog.visualize.gallery._write import gallery_from, write_gallery

__all__ = ["Card", "annotate", "gallery_from", "read_cards", "save_card", "write_gallery"]
