"""Target ONNX: a program as an ONNX file."""

ENDING = ".onnx"
