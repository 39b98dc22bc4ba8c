"""Arrays in, scaled tensors out."""

__all__: list[str] = []
