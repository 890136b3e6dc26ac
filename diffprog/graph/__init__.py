"""The recorded graph of a program: every value, every gradient, and selectors for them.

A selector says which values are meant. It is one of these.

    "hidden"          a name without "/": what `dp.tap` gave this name, the output of modules called so ("Dense_1"),
                      and operations: the primitive ("dot_general") or the custom function ("relu")
    "*/Dense_1/*"     a path with "/": operations by the modules and scopes around them, followed by the primitive,
                      and taps, followed by the tap's name
    "MLP/Dense_1"     the same path without a primitive: the module itself, that is, what it returns
    "model.py:31"     a line of a file: every operation of that line ("nets/model.py:31" if there are two such files)
    predicate         a function of one operation (with `.primitive`, `.path`, `.tap`, `.source`, `.shape`, `.dtype`,
                      `.params`) that says yes or no

In names and paths `*` stands for any characters, "/" included, and `?` for one; brackets are meant literally, for paths
contain "layers[0]" and "scan[3]". A path whose last part is `*` alone means operations and taps, not modules.

A tap of a pytree is selected whole by its name and leaf by leaf with the place, "hidden['mean']". A name that is both a
tap's and a primitive's selects both: "tap:tanh" and "primitive:tanh" say which. "path:..." and "line:..." exist too.
"""

from diffprog.graph._explain.backward_source import BackwardSource, backward_source
from diffprog.graph._interventions.activations import activations, grad_at
from diffprog.graph._interventions.intervene import hook, intervene
from diffprog.graph._recording.nodes import Decision, Edge, Frame, Node, Place, Source
from diffprog.graph._recording.record import Memory, RecordedFunction, record
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.summaries import Summary, summarize
from diffprog.graph._selection.selectors import Selector, Site
from diffprog.graph._selection.tap import tap

__all__ = [
    "BackwardSource",
    "Decision",
    "Edge",
    "Frame",
    "Memory",
    "Node",
    "Place",
    "RecordedFunction",
    "Recording",
    "Selector",
    "Site",
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
