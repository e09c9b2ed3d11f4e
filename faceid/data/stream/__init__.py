"""The endless stream of training samples: order, mixture, pairing, and held-out clips."""
