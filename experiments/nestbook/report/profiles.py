"""The newest record of each profile as a table, and growth as a picture; none yet says so."""

from collections.abc import Sequence

from nestbook.report.choices import attention_table, products_table
from nestbook.report.cost import describe_machine
from nestbook.report.explaining import explaining_table
from nestbook.report.growth import growth_table, plot_growth
from nestbook.report.input_rate import input_table
from nestbook.report.loader import data_faults_table, loader_table, streaming_table
from nestbook.report.pictures import Picture
from nestbook.report.roofline import roofline_table
from nestbook.report.step import step_table
from nestbook.report.tables import NOT_RUN, Table
from nestlib.records import Record, Store

# What stands above the table while there is nothing in it, and what makes it.
TABLES = {
    "roofline": ("Time of a forward pass of NesT-T, and its floors", roofline_table),
    "step": ("Training steps by kinds of operators", step_table),
    "growth": ("Growth of time and memory", growth_table),
    "attention": ("Attention within blocks", attention_table),
    "products": ("Linear layers", products_table),
    "input": ("Batches made without a model", input_table),
    "explaining": ("Looking into a NesT: its cost", explaining_table),
    "data-faults": ("Faults of data", data_faults_table),
    "loader": ("Images decoded and augmented", loader_table),
    "streaming": ("Memory while shards are streamed", streaming_table),
}


def show_profile(name: str, records: Sequence[Record], precision: str | None = None) -> Table:
    """The first of a profile's records (Store.find_benches puts GPUs first), of one precision."""
    caption, build_table = TABLES[name]
    records = [r for r in records if precision in (None, r.recipe["precision"])]
    if not records:
        note = f"nest profile {name}{f' --precision {precision}' if precision else ''} measures it"
        return Table(caption, ("Measured",), [(NOT_RUN,)], [note])
    return build_table(records[0].summary, records[0].run_id)


def show_profiles(store: Store, names: Sequence[str], precisions: Sequence[str]) -> list[Table]:
    """`show_profile` of each profile, in each precision."""
    return [
        show_profile(name, store.find_benches(name), precision)
        for name in names for precision in precisions
    ]  # fmt: skip


def draw_growth(records: Sequence[Record]) -> Picture | Table:
    if not records:
        return show_profile("growth", records)
    return plot_growth(records[0].summary, "growth", describe_machine(records[0]))
