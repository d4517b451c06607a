"""The scoring app against azureml's, MLflow's and a plain FastAPI server: `python -m benchmarks.serving`."""
