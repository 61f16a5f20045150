"""What a guarded call costs and how it behaves, for shoal and for the libraries it is compared with.

`libraries` says how each one guards a call, `cost` times and weighs that, `scenarios` tries what is known to go wrong,
`report` writes the tables. `make bench` runs it all; `python -m benchmarks --help` says what can be run alone.
"""
