"""How prefsync does as the work grows: ``python -m tests.bench.growth`` from the repository's root.

Not how fast it is, but whether a request costs the same when everything around it is larger.

==============  ====================================================================
``ground``      what all measurements stand on: stores, servers, loads, what is found
``subjects``    a thousand subjects beside a million
``trimming``    the log is trimmed while a thousand writes a second come
``documents``   documents of 1, 10 and 100 KiB
``processes``   1 to 4 processes
``sessions``    up to 10,000 sessions in which nothing happens
``nearby``      near caches, bounded by bytes
``plots``       a picture of each
==============  ====================================================================
"""
