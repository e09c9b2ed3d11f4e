"""Loading and sampling beside public packages."""
