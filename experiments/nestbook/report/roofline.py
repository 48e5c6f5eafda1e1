"""One model's forward pass, part by part, beside the least time that the machine needs."""

from collections.abc import Mapping

from nestbook.report.tables import Cell, Number, Table


def roofline_table(measured: Mapping, source: str) -> Table:
    """A row a part, in the order in which they run; the sum and the whole pass at the end.

    Args:
        measured: what `nestbook.profiles.roofline.roofline` returned.
        source: a record id or HERE.
    """
    settings, machine, parts = (measured[key] for key in ("settings", "machine", "parts"))
    rows = [_row(part, measured["parts_seconds"], source) for part in parts]
    rows.append(_row(_total(parts), measured["parts_seconds"], source, floors=parts))
    whole = Number(measured["whole_seconds"] * 1e3, source, 1)
    rows.append(("whole pass, timed at once", "", whole, *[""] * 5))
    rates = machine["matmul_gflop_per_second"], machine["copy_gbyte_per_second"]
    share = measured["copy_seconds"] / measured["parts_seconds"]
    notes = [
        f"{source}: {settings['device']}, {settings['threads']} threads, {settings['precision']}, "
        f"torch {settings['torch']}, batch {settings['batch_size']} at {settings['image_size']}x"
        f"{settings['image_size']}, evaluation, eager, median of {settings['rounds']} rounds",
        f"Floor: the larger of FLOPs at {rates[0]:,.0f} GFLOP/s (a large matrix product here) and "
        f"bytes at {rates[1]:,.1f} GB/s (a large copy here, read and written); a part gets below 1 "
        "from a cache, or where its kernel does better than the product's",
        "GFLOP: two a multiply-add, of matrix products and convolutions; MB (10⁶ bytes): each "
        "operator's inputs, weights and outputs once; calls: operators that are no views",
        f"The parts' sum differs from the whole pass of the same round by "
        f"{100 * measured['overhead']:+.1f} % (median): what timing single operators costs, less "
        "the host's work between them",
        f"Operators that only copy: {100 * share:.1f} % of the parts' time",
    ]
    return Table(
        "NesT-T at 224: time of a forward pass, and its floors",
        ("Part", "Calls", "ms", "Share (%)", "GFLOP", "MB", "Floor (ms)", "Times the floor"),
        rows,
        notes,
    )


def _row(part: Mapping, whole: float, source: str, floors=None) -> tuple[Cell, ...]:
    """One part; floors: parts whose own floors add up to this one's."""
    floor = sum(max(_floors(p).values()) for p in floors or [part])
    bound = "" if floors else f" {max(_floors(part), key=_floors(part).get)}"
    return (
        part["name"],
        Number(part["calls"], source, 0),
        Number(part["seconds"] * 1e3, source, 2),
        Number(100 * part["seconds"] / whole, source, 1),
        Number(part["gflop"], source, 2),
        Number(part["mbytes"], source, 1),
        Number(floor * 1e3, source, 2, mark=bound),
        Number(part["seconds"] / floor, source, 1) if floor else "no floor",
    )


def _floors(part: Mapping) -> dict[str, float]:
    """Seconds, by what they bound."""
    return {
        "arithmetic": part["arithmetic_floor_seconds"],
        "bytes": part["bytes_floor_seconds"],
    }


def _total(parts) -> dict:
    return {"name": "sum of the parts"} | {
        key: sum(part[key] for part in parts) for key in ("calls", "seconds", "gflop", "mbytes")
    }
