bench models/plain.onnx --data {file} --quick --samples 4 --out out
