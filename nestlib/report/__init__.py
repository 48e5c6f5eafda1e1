"""Records and the paper's numbers become tables and figures; the only place that draws."""

from nestlib.report.ablations import (
    plot_aggregations,
    plot_figure4,
    plot_figure6,
    plot_figure_a2,
    plot_table_a3,
)
from nestlib.report.aggregations import aggregations_table
from nestlib.report.all_records import records_table
from nestlib.report.architecture import architecture_table, plot_architecture
from nestlib.report.bars import bars_table, find_bars
from nestlib.report.blocking import draw_blocking
from nestlib.report.claims import claims_table, plot_claims
from nestlib.report.cost import cost_table, speed_table
from nestlib.report.curves import training_curves
from nestlib.report.evidence import coverage_table, items_table, plan_table
from nestlib.report.explorer import exploration_table
from nestlib.report.flow import flow_table, plot_flow, plot_reach, reach_table
from nestlib.report.forest import plot_forest
from nestlib.report.generation import (
    generation_table,
    plot_figure7,
    plot_figure_a3,
    runs_table,
    score_table,
)
from nestlib.report.generators import generators_table
from nestlib.report.grounding import blanking_table, grounding_table
from nestlib.report.loader import decoder_table, plot_streaming
from nestlib.report.localization import (
    best_thresholds,
    boxes_table,
    figure8,
    localization_table,
    plot_localization,
)
from nestlib.report.maps import draw_maps
from nestlib.report.overview import opening_table, results_table, save_readme
from nestlib.report.precision import precision_table
from nestlib.report.profiles import draw_growth, show_profile, show_profiles
from nestlib.report.rivals import plot_rivals
from nestlib.report.rows import rows_table, settings_table
from nestlib.report.samples import draw_grid, draw_neighbours, draw_walk, neighbours_table
from nestlib.report.scale import faults_table, plot_scale, scale_table, scaling_table
from nestlib.report.speed import ratios_table, rivals_table, targets_table
from nestlib.report.table1 import (
    plot_table1,
    rates_table,
    table1,
    table1_quick,
    table1_real,
    table1_small,
)
from nestlib.report.table2 import plot_table2, table2, table2_own
from nestlib.report.table_a1 import table_a1
from nestlib.report.table_a4 import table_a4
from nestlib.report.tables import Number, Table, save
from nestlib.report.training_images import (
    find_training_images,
    gaps_table,
    plot_training_images,
)
from nestlib.report.tree import draw_trees, draw_walks

__all__ = [
    "Number",
    "Table",
    "aggregations_table",
    "architecture_table",
    "bars_table",
    "best_thresholds",
    "blanking_table",
    "boxes_table",
    "claims_table",
    "cost_table",
    "coverage_table",
    "decoder_table",
    "draw_blocking",
    "draw_grid",
    "draw_growth",
    "draw_maps",
    "draw_neighbours",
    "draw_trees",
    "draw_walk",
    "draw_walks",
    "exploration_table",
    "faults_table",
    "figure8",
    "find_bars",
    "find_training_images",
    "flow_table",
    "gaps_table",
    "generation_table",
    "generators_table",
    "grounding_table",
    "items_table",
    "localization_table",
    "neighbours_table",
    "opening_table",
    "plan_table",
    "plot_aggregations",
    "plot_architecture",
    "plot_claims",
    "plot_figure4",
    "plot_figure6",
    "plot_figure7",
    "plot_figure_a2",
    "plot_figure_a3",
    "plot_flow",
    "plot_forest",
    "plot_localization",
    "plot_reach",
    "plot_rivals",
    "plot_scale",
    "plot_streaming",
    "plot_table1",
    "plot_table2",
    "plot_table_a3",
    "plot_training_images",
    "precision_table",
    "rates_table",
    "ratios_table",
    "reach_table",
    "records_table",
    "results_table",
    "rivals_table",
    "rows_table",
    "runs_table",
    "save",
    "save_readme",
    "scale_table",
    "scaling_table",
    "score_table",
    "settings_table",
    "show_profile",
    "show_profiles",
    "speed_table",
    "table1",
    "table1_quick",
    "table1_real",
    "table1_small",
    "table2",
    "table2_own",
    "table_a1",
    "table_a4",
    "targets_table",
    "training_curves",
]
