"""The table: one row per case of a rule. `test_rules.py` holds every row against `jax.vjp`."""

from tests.rules.rows.core import CORE
from tests.rules.rows.devices import DEVICES
from tests.rules.rows.effects import EFFECTS
from tests.rules.rows.factorizations import FACTORIZATIONS
from tests.rules.rows.linear_algebra import LINEAR_ALGEBRA
from tests.rules.rows.references import REFERENCES
from tests.rules.rows.row import Row
from tests.rules.rows.special_functions import SPECIAL_FUNCTIONS

__all__ = ["ROWS", "Row"]

ROWS = [*CORE, *LINEAR_ALGEBRA, *FACTORIZATIONS, *SPECIAL_FUNCTIONS, *REFERENCES, *EFFECTS, *DEVICES]
