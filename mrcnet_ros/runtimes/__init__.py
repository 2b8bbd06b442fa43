"""What runs the graphs: ONNX Runtime, OpenVINO, TensorRT, PyTorch; knows nothing of poses."""
