"""The published MRC-Net: crops, templates, decoding and the estimator, without PyTorch."""
