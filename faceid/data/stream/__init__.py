"""The endless stream of training samples: order, mixture, pairing, and what is held out."""
