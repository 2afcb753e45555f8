"""The programs: a module each, whose ``main`` reads the command line. ``scripts/`` and ``data_prep/`` hold doors."""
