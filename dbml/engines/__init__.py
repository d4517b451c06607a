"""Engines: a fitted model in, scores out.  `python`, the model itself, always works; `sql` is proven equal, or not used."""
