"""One GPU at the real model's sizes."""
