"""The recorded graph of a program: every value, every gradient."""

from diffprog.graph.backward_source import backward_source
from diffprog.graph.nodes import Edge, Frame, Node, Place, Source
from diffprog.graph.recording import Recording
from diffprog.graph.running import record
from diffprog.graph.summaries import Summary, summarize

__all__ = ["Edge", "Frame", "Node", "Place", "Recording", "Source", "Summary", "backward_source", "record", "summarize"]
