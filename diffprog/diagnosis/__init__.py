"""What is wrong with a gradient, and where it was born (`dp.diagnose`); what it holds, by line (`dp.memory`)."""

from diffprog.diagnosis._diagnose import diagnose
from diffprog.diagnosis._finding import Diagnosis, Finding
from diffprog.diagnosis._memory import MemoryReport, MemoryRow, MemorySpan, memory
from diffprog.diagnosis._residuals import Residual, Residuals

__all__ = [
    "Diagnosis",
    "Finding",
    "MemoryReport",
    "MemoryRow",
    "MemorySpan",
    "Residual",
    "Residuals",
    "diagnose",
    "memory",
]
