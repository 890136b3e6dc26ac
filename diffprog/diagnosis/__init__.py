"""What is wrong with a gradient, and where it was born: `dp.diagnose`."""

from diffprog.diagnosis._diagnose import diagnose
from diffprog.diagnosis._finding import Diagnosis, Finding
from diffprog.diagnosis._residuals import Residual, Residuals

__all__ = ["Diagnosis", "Finding", "Residual", "Residuals", "diagnose"]
