"""Why a derivative that exists is not ours, for each function where that is so."""

REASONS: dict[str, str] = {}
