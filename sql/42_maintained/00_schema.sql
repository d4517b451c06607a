-- What dbml.maintain_predictions keeps, a table each: of the owner, so that no code of anybody's runs when it is written.
create schema if not exists dbml_predictions;
revoke all on schema dbml_predictions from public;
comment on schema dbml_predictions is
    'Kept predictions, written by dbml alone; what people read are the views that dbml.maintain_predictions makes of them.';
