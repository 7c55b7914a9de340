"""Hand-tuned kernels over the emitter: matrix products, and the arithmetic they share."""
