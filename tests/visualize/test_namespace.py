"""What stands at the top of `diffprog.visualize`, and what in its namespaces."""

import builtins
import inspect

import diffprog.visualize as visualize

NAMESPACES = ("evaluation", "gallery", "objectives", "parameterizations", "penalties", "transforms")


def test_the_top_is_small_and_namespaces_hold_the_rest():
    functions = [name for name in visualize.__all__ if inspect.isfunction(inspect.unwrap(getattr(visualize, name)))]
    assert len(functions) <= 18
    for name in NAMESPACES:
        namespace = getattr(visualize, name)
        assert inspect.ismodule(namespace) and namespace.__all__
        public = {
            name for name, value in vars(namespace).items() if getattr(value, "__module__", "") == namespace.__name__
        }
        assert {name for name in public if not name.startswith("_")} <= set(namespace.__all__)


def test_importing_everything_shadows_nothing():
    hazards = {"l1", "l2", "pad", "noise", "blur", "scale", "resize", "crop", "flip"}
    assert not hazards & set(visualize.__all__)
    assert not set(vars(builtins)) & set(visualize.__all__)
