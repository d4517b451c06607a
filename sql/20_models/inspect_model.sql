create or replace function dbml.inspect_model(model text, workspace text default null)
returns table (module text, name text, calls bigint, verdict text, allowed boolean, note text)
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: sends the bytes to the worker, for a caller who may read the model.
as $$
declare
    lent record;
begin
    lent := dbml_channel.find_model(model, workspace, 'read');
    return query
        select r.module, r.name, r.calls, r.verdict, r.allowed, r.note
        from jsonb_to_recordset(dbml_channel._ask_contents('inspect', lent.name || ':' || lent.version, lent.digest, lent.format, lent.policy)::jsonb)
            as r(module text, name text, calls bigint, verdict text, allowed boolean, note text);
end
$$;
comment on function dbml.inspect_model(text, text) is
'What a model''s bytes import or hold, a row for each name; found without loading them.

calls: how often a pickle calls it when it is loaded (0: only names it), or how often a safe file holds it.
verdict: of a pickle''s, harmless, dangerous (runs code, reaches files, processes or the network, or finds any attribute),
unknown (all else) or cannot be told; of a safe file''s, trusted or untrusted. allowed: whether the workspace lets it be
loaded. A row without a name is a remark, which note holds: a name that is computed, bytes that end too early.
Errors: ML020 no such model; ML022 bytes that are damaged or no safe file; ML030 a model of R.
Example: SELECT module, name, calls, verdict FROM dbml.inspect_model(''demo-diabetes'') ORDER BY 1, 2;';
