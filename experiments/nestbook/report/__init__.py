"""Records and the paper's numbers become tables and figures; the only place that draws."""
