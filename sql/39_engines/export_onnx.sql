create or replace function dbml.export_onnx(model text, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after the caller's right to read the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'read');
    c dbml._certificates;
    whole bytea;
    size integer;
begin
    if lent.format <> 'onnx' then
        select s.* into c from dbml._certificates s where (s.model_id, s.engine) = (lent.model_id, 'onnx');
        if c.status is distinct from 'certified' then
            raise exception 'model "%" has no certified form in ONNX: %', model, coalesce(c.reason, 'it was never converted') using errcode = 'ML027',
                detail = jsonb_build_object('model', model, 'engine', 'onnx', 'why', c.reason),
                hint = format('SELECT dbml.compile_model(%L, engine => ''onnx'')', model);
        end if;
    end if;
    select string_agg(dbml._read_chunk(k), ''::bytea order by bc.ordinal) into whole
    from dbml._blob_chunks bc join dbml._chunks k on k.digest = bc.chunk where bc.blob = coalesce(c.pair, lent.digest);
    if lent.format = 'onnx' then
        return whole;
    end if;
    size := ('x' || encode(substring(whole from octet_length(whole) - 7), 'hex'))::bit(64)::bigint::integer;
    return substring(whole from size + 1 for octet_length(whole) - size - 8);
end
$$;
comment on function dbml.export_onnx(text, text) is
'A model as an ONNX file: the one that it came as, or the one that dbml.compile_model(model, engine => ''onnx'') has made and proven.

Of a file that dbml has made the first output is the prediction, then come probabilities where there are any; answered, where
it is an output, says of which rows they are the model''s own.
Errors: ML020 no such model; 42501 no right to read it; ML027 it has no certified form in ONNX.
Example: BEGIN; SELECT dbml.compile_model(''demo-diabetes'', engine => ''onnx''); SELECT length(dbml.export_onnx(''demo-diabetes'')) > 0; ROLLBACK;';
