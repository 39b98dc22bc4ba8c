"""The model: its modules, its start, and what is computed with a trained one."""

__all__: list[str] = []
