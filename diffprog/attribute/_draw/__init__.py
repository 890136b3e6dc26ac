"""Pictures of attributions: maps, sheets, films, strips, words, listings."""
