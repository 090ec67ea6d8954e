"""What few need and the core never loads: several machines, a client for model servers, files inside of a graph.

Stage: after export. Imported inside of functions, by the command line, `training/distribution.py` and
`export/saved_model.py` only; `tests/test_layout.py` holds that.
"""
