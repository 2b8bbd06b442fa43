"""From mesh files to a model that a robot can use: ``mrcnet new``.

``request`` holds the options, ``intake`` reads the meshes, ``symmetry_search`` finds symmetries,
``steps`` runs the steps that are not done yet, and ``page`` writes the report.
"""
