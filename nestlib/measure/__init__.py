"""What a model costs: parameters, multiply-adds, memory and images a second."""

from nestlib.measure.speed import (
    FLOP_COUNTER,
    Contender,
    bench,
    count_gflops,
    count_params,
    measure_memory_mb,
)

__all__ = [
    "FLOP_COUNTER",
    "Contender",
    "bench",
    "count_gflops",
    "count_params",
    "measure_memory_mb",
]
