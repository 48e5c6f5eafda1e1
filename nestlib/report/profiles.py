"""The newest record of each profile as tables and a picture; none yet says so."""

from collections.abc import Sequence

from nestlib.records import Record
from nestlib.report.cost import describe_machine
from nestlib.report.growth import growth_table, plot_growth
from nestlib.report.pictures import Picture
from nestlib.report.roofline import roofline_table
from nestlib.report.tables import NOT_RUN, Table


def show_roofline(records: Sequence[Record]) -> Table:
    """The first record's parts (Store.find_benches puts GPUs first)."""
    if not records:
        return _nothing("Time of a forward pass of NesT-T, and its floors", "roofline")
    return roofline_table(records[0].summary, "NesT-T at 224", records[0].run_id)


def show_growth(records: Sequence[Record]) -> Table:
    if not records:
        return _nothing("Growth of time and memory", "growth")
    return growth_table(records[0].summary, records[0].run_id)


def draw_growth(records: Sequence[Record]) -> Picture | Table:
    if not records:
        return show_growth(records)
    return plot_growth(records[0].summary, "growth", describe_machine(records[0]))


def _nothing(caption: str, profile: str) -> Table:
    return Table(caption, ("Measured",), [(NOT_RUN,)], [f"nest profile {profile} measures it"])
