"""Sweeps: many settings tried on validation, few reported on test, one frontier at the end.

`reading` reads the file, `plan` holds its values and lays out the cells, `cell` is what one process
does, `store` keeps what is finished, `choosing` picks on validation, `running` does all of it, and
`table` writes the Parquet. `simulations.report.sweep_page` shows it.

Rules a reader can check line by line:

1. Settings are chosen on the validation split alone (`choosing.choose` refuses anything else); only
   the chosen ones are ever run on the test split.
2. What is chosen is chosen for a *goal*: an ε and a population. Those two are never tuned.
3. Same file, same code: same numbers, however many workers, killed or not.
4. Looking at validation has a price on real people that a simulation does not pay; reports say so.
"""
