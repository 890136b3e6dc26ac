"""The recorded graph of a program: every value, every gradient."""

from diffprog.graph.recording import RecordedNode, Recording, record

__all__ = ["RecordedNode", "Recording", "record"]
