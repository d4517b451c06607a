"""Training beyond one script: `hyperdrive` tries parameters.  What is not there says what is, in `automl`, `dnn` and others."""
