"""Recorded graphs of programs, with every value and gradient, and ways to read and change them in place."""

from diffprog.graph._explain.backward_source import backward_source
from diffprog.graph._interventions.activations import activations, grad_at
from diffprog.graph._interventions.intervene import hook, intervene
from diffprog.graph._recording.nodes import Edge, Frame, Node, Place, Source
from diffprog.graph._recording.record import record
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.summaries import Summary, summarize
from diffprog.graph._selection.tap import tap

__all__ = [
    "Edge",
    "Frame",
    "Node",
    "Place",
    "Recording",
    "Source",
    "Summary",
    "activations",
    "backward_source",
    "grad_at",
    "hook",
    "intervene",
    "record",
    "summarize",
    "tap",
]
