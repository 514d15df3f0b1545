inspect run/onnx
