"""The detector at run time: boxes of known objects in an image, without PyTorch."""
