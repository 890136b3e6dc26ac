"""The error of an operation that has no derivative."""


class MissingDerivative(NotImplementedError):
    """An operation has no derivative; names it and the user's line.

    Inside a staged function (`jit`, `scan`) the line may be unknown; whoever calls that function adds its own.
    """

    def __init__(self, problem: str, line: str | None, advice: str):
        self.problem, self.line, self.advice = problem, line, advice
        super().__init__(f"{problem} at {line or 'an unknown line'}: {advice}")

    def called_from(self, line: str | None) -> "MissingDerivative":
        """Add this line, if the error has none."""
        return self if self.line else MissingDerivative(self.problem, line, self.advice)
