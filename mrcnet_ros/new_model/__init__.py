"""From mesh files to a model that a robot can use: ``mrcnet new``.

``request`` says what is asked, ``intake`` takes the meshes in, ``symmetry_search`` finds what
looks the same, ``steps`` runs what is not done yet, ``page`` shows the result.
"""
