"""The worker: listens to SQL, routes, and runs scripts and models in processes of their own."""
