"""Training: what is automatic, the loop, its state."""

__all__: list[str] = []
