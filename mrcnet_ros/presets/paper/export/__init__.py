"""From a published checkpoint to ONNX graphs and a model directory."""
