-- Functions that models were compiled to, a few for each version: made with it, dropped with it.
create schema if not exists dbml_models;
revoke all on schema dbml_models from public;
comment on schema dbml_models is
    'Models as functions of SQL: made by dbml when a version is registered, dropped with it. Use them through dbml.predict.';
