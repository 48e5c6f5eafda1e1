"""Commands of `nest` that make the book's records: sweeps, benchmarks, evaluations."""
