"""What was measured: seconds per segment and device type, rate and delay of links, error of lower precisions.

``table`` is the file format, ``median`` when to stop measuring, ``latency``, ``links`` and ``precision`` the three
things that are measured, ``lookup`` how fleet.toml takes a model from the tables. Tables of boards that nobody here
has are made by ``derive`` from published figures, and say so.
"""
