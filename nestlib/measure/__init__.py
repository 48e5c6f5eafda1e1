"""What a model costs: parameters, multiply-adds, memory and images a second."""

from nestlib.measure.cost import FLOP_COUNTER, count_gflops, count_params, measure_memory_mb
from nestlib.measure.speed import Contender, bench

__all__ = [
    "FLOP_COUNTER",
    "Contender",
    "bench",
    "count_gflops",
    "count_params",
    "measure_memory_mb",
]
