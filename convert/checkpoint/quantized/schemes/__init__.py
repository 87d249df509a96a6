"""The schemes of quantization that are read: one file each, which defines `METHODS` and `read(section)`."""
