"""The language of selectors, on sites written by hand."""

from dataclasses import dataclass, field

import pytest

from diffprog.graph._recording.nodes import Source
from diffprog.graph._selection.selectors import parse, select, select_one
from diffprog.graph._selection.tap import Leaf, ModuleOutput


@dataclass
class Site:
    primitive: str
    path: str = ""
    tap: str | None = None
    line: str = "/home/me/nets/model.py:1"
    label: str = ""
    shape: tuple = ()
    dtype: object = None
    params: dict = field(default_factory=dict)

    @property
    def source(self):
        file, _, line = self.line.rpartition(":")
        return Source(file, int(line), "f")


PRODUCT = Site("dot_general", "MLP/Dense_0", line="/home/me/nets/model.py:31")
SUM = Site("add", "MLP/Dense_0", line="/home/me/nets/model.py:31")
FIRST = Site("name", "MLP/Dense_0", ModuleOutput("MLP/Dense_0"))
RELU = Site("custom_jvp_call", "MLP", label="relu", line="/home/me/nets/model.py:32", shape=(3,))
HIDDEN = Site("name", "MLP", "hidden", line="/home/me/nets/model.py:32")
DEEP = Site("dot_general", "MLP/Block/Dense_0", line="/home/me/other/model.py:31")
SECOND = Site("name", "MLP/Block/Dense_0", ModuleOutput("MLP/Block/Dense_0"))
LISTED = Site("tanh", "Net/layers[0]")
LISTED_OUT = Site("name", "Net/layers[0]", ModuleOutput("Net/layers[0]"))
LOOP = Site("sin", "scan[3]")
PAIR_A = Site("name", "", Leaf("pair", "['a']"))
PAIR_B = Site("name", "", Leaf("pair", "['b']"))
TAP_TANH = Site("name", "", "tanh")
ALL = [PRODUCT, SUM, FIRST, RELU, HIDDEN, DEEP, SECOND, LISTED, LISTED_OUT, LOOP, PAIR_A, PAIR_B, TAP_TANH]
OPERATIONS = [PRODUCT, SUM, RELU, DEEP, LISTED, LOOP]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hidden", [HIDDEN]),
        ("pair", [PAIR_A, PAIR_B]),
        ("pair['b']", [PAIR_B]),
        ("pair*", [PAIR_A, PAIR_B]),
        ("dot_general", [PRODUCT, DEEP]),
        ("relu", [RELU]),
        ("Dense_0", [FIRST, SECOND]),
        ("layers[0]", [LISTED_OUT]),
        ("tanh", [LISTED, TAP_TANH]),
        ("tap:tanh", [TAP_TANH]),
        ("primitive:tanh", [LISTED]),
        ("*/Dense_0/*", [PRODUCT, SUM, DEEP]),
        ("MLP/Dense_0/*", [PRODUCT, SUM]),
        ("MLP/Dense_0", [FIRST]),
        ("*/Dense_?", [FIRST, SECOND]),
        ("**/Dense_0/dot_general", [PRODUCT, DEEP]),
        ("MLP/hidden", [HIDDEN]),
        ("MLP/*", [PRODUCT, SUM, RELU, HIDDEN, DEEP]),
        ("Net/layers[0]", [LISTED_OUT]),
        ("Net/layers[0]/tanh", [LISTED]),
        ("scan[3]/sin", [LOOP]),
        ("scan[*]/sin", [LOOP]),
        ("path:MLP/Dense_0", [FIRST]),
        ("model.py:31", [PRODUCT, SUM, DEEP]),
        ("nets/model.py:31", [PRODUCT, SUM]),
        ("/home/me/other/model.py:31", [DEEP]),
        ("line:model.py:32", [RELU]),
        (lambda site: site.shape == (3,), [RELU]),
    ],
)
def test_what_is_meant(text, expected):
    assert select(text, ALL) == expected


def test_a_star_alone_is_every_operation_and_tap_but_no_module():
    assert select("*", ALL) == [site for site in ALL if not isinstance(site.tap, ModuleOutput)]
    assert select("primitive:*", ALL) == OPERATIONS


@pytest.mark.parametrize("text", ["layers[0]", "a.c", "x+", "(y)", "scan[3]"])
def test_only_the_star_and_the_question_mark_are_special(text):
    assert parse(text).matches(Site("name", "", text))
    for other in ("layers0", "abc", "xx", "y", "scan3"):
        assert not parse(text).matches(Site("name", "", other))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden", "no value is selected by 'hiden': did you mean 'hidden'?"),
        ("Dense_7", "did you mean 'MLP/Block/Dense_0' or 'MLP/Dense_0'"),
        ("dotgeneral", "did you mean 'dot_general'"),
        ("MLP/Dense_1/*", "did you mean 'MLP/Dense_0'"),
        ("model.py:33", "did you mean 'model.py:3"),
        ("zzz", "the taps of this run are 'hidden', "),
    ],
)
def test_nothing_is_meant(text, message):
    with pytest.raises(ValueError) as caught:
        select(text, ALL)
    assert message in str(caught.value)


def test_nothing_fits_a_predicate():
    def is_large(site):
        return False

    with pytest.raises(ValueError, match="the selector 'is_large' says no to every operation"):
        select(is_large, ALL)


def test_one_is_asked_for():
    assert select_one("hidden", ALL) is HIDDEN
    with pytest.raises(ValueError, match=r"'dot_general' means 2 values \(MLP/Dense_0/dot_general, MLP/Block"):
        select_one("dot_general", ALL)


def test_no_selector():
    with pytest.raises(TypeError, match="found 3"):
        parse(3)
    with pytest.raises(ValueError, match="a selector is empty"):
        parse(" ")
