export copy --to onnx
