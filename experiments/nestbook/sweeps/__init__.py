"""The runs behind each figure and table: plans, and the sweep that carries them out."""
