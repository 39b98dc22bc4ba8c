"""Files: a fitted estimator, checkpoints, ONNX."""

__all__: list[str] = []
