create or replace function dbml_channel.maintained_rows(kept_id bigint)
returns bigint
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: counts what the owner keeps, for those whom the view dbml.maintained_predictions shows it.
as $$
declare
    n bigint;
begin
    if to_regclass(format('dbml_predictions.p%s', kept_id)) is null
       or not exists (select from dbml._maintained k where k.maintained_id = kept_id
                      and (pg_has_role(dbml_channel.caller(), k.maintainer, 'usage') or dbml_channel.may(k.workspace_id, 'read'))) then
        return null;
    end if;
    execute format('select count(*) from dbml_predictions.p%s', kept_id) into n;
    return n;
end
$$;
comment on function dbml_channel.maintained_rows(bigint) is 'How many predictions are kept; NULL for who may not know.';
