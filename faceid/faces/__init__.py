"""Photos to an identity: detection, quality, embedding, aggregation, report."""
