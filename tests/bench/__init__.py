"""The benchmark: ``python -m tests.bench`` from the repository's root.

Servers run as processes of their own, pinned to one core; the load comes from this process, pinned to another. What is
measured stands beside its floor, the least that any server of the kind has to do, taken in turns within the same run:
only the ratios travel from one machine to another.

=============  =========================================================================
``cores``      who runs where
``serve``      starts one app under uvicorn on its core (a process of its own)
``floor``      the floors, an ASGI app
``stage``      the servers of a run: PostgreSQL, Redis, the example app, the floors
``crowd``      users, their tokens and documents, and the requests that they send
``load``       the load generator
``traffic``    what is measured: the requests, their floor, the target
``meters``     processor time, Redis commands, statements
``tap``        a proxy that counts what goes to PostgreSQL
``measure``    one measurement, and their order
``report``     the table and the JSON file
``machine``    versions and the processor
=============  =========================================================================
"""
