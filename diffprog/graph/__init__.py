"""The recorded graph of a program: every value, every gradient."""

from diffprog.graph._explain.backward_source import backward_source
from diffprog.graph._recording.nodes import Edge, Frame, Node, Place, Source
from diffprog.graph._recording.record import record
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.summaries import Summary, summarize

__all__ = ["Edge", "Frame", "Node", "Place", "Recording", "Source", "Summary", "backward_source", "record", "summarize"]
