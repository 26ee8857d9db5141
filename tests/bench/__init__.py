"""The benchmark: ``python -m tests.bench`` from the repository's root.

Servers run as processes of their own, pinned to one core; the load comes from this process, pinned to another. What is
measured stands beside its floor, the least that any server of the kind has to do, taken in turns within the same run:
only the ratios travel from one machine to another.

===============  ==============================================================================
``cores``        who runs where
``serve``        starts one app on its core, under uvicorn or gunicorn (a process of its own)
``floor``        the floors, an ASGI app; ``flask_floor``, ``broadcast``, ``rooms``: those of Flask and of fan-out
``handwritten``  the server that a team would write by hand, for comparison
``stage``        the servers of a run: PostgreSQL, Redis, the example app, the floors
``crowd``        users, their tokens and documents, and the requests that they send
``load``         the load generator
``traffic``      what is measured: the requests, their floor, the target
``meters``       processor time, Redis commands, statements
``tap``          a proxy that counts what goes to PostgreSQL
``measure``      one measurement, and their order
``importing``    what ``import prefsync`` takes
``outcome``      what was asked for, and what was found: the closing table
``report``       the tables and the JSON file
``pages``        tables put into the documentation
``machine``      versions and the processor
``growth``       as the work grows: a benchmark of its own
===============  ==============================================================================
"""
