"""The page: a pipeline in a browser, on this machine or on AWS, read through ``silversmith.operations``.

It is served by a process of its own (``beside.py``), so that whatever becomes of it, an engine does not notice. Whoever
may see it is decided in ``gate.py``; every text is shown escaped (``rendering.py``).
"""
