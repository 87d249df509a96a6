"""The towers that read pictures, one file each: their tensors as a projector file has them."""
