"""compressed-tensors: what vLLM, SGLang and Transformers read of FP8, INT8, INT4 and FP4."""
