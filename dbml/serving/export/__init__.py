"""The export: a registered model becomes a folder, an image, or manifests, which run without dbml and without its database.

What is exported is a `Plan` (`plan.py`), made by who knows the database; this package knows files alone.  The same plan
gives the same bytes.
"""
