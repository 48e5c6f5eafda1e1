"""The runs behind each figure and table: their plans, and the sweep that carries these out."""
