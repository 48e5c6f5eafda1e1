"""Records and the paper's numbers become tables and figures; the only place that draws."""

from nestlib.report.table1 import plot_table1, table1, table1_cost, table1_quick, table1_real
from nestlib.report.table_a1 import table_a1
from nestlib.report.tables import Number, Table, save

__all__ = [
    "Number",
    "Table",
    "plot_table1",
    "save",
    "table1",
    "table1_cost",
    "table1_quick",
    "table1_real",
    "table_a1",
]
