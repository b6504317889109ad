"""The page: a pipeline in a browser, on this machine or on AWS, read through ``silversmith.operations``.

A process of its own serves it (``process.py``), so that an engine does not notice what happens to the page. ``auth.py``
decides who may see it; ``context.py`` shows every text escaped.
"""
