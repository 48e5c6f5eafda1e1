"""The book's own code over nestlib: benchmarks, tables, figures, claims and the explorer."""
