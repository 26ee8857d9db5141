"""Adapters of the ports, one module or package for each technology. Import the one you need."""
