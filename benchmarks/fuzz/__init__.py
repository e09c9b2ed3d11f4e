"""Every file format that the product reads, changed in thousands of ways."""
