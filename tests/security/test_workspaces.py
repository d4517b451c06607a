"""What belongs to one workspace is seen and changed by those who are let in, through whatever function or view."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from .cast import GRANTED, Cast, acting, fingerprint, secured_tables, staged, submitted

Connection = psycopg.Connection[Any]

EVERYBODY = {*GRANTED, "model_predict", "model_read", "model_write", "clerk", "stranger"}
READERS = {"reader", "contributor", "owner"}
WRITERS = {"contributor", "owner"}
OWNERS = {"owner"}
ADMINISTRATORS: set[str] = set()  # none of the cast
PREDICTORS = READERS | {"predictor", "model_predict", "model_read", "model_write"}
MODEL_READERS = READERS | {"model_read", "model_write"}
MODEL_WRITERS = WRITERS | {"model_write"}
KNOWN = EVERYBODY - {"stranger"}
# What is one's own whatever the workspace: all who were given the function, by a group role or with a grant to write.
UPLOADERS = READERS | {"model_write", "stranger"}

REQUEST = """dbml_channel.script_request('OutputDataSet = [1]', null, '{{}}', '{{}}', 'python', 'InputDataSet', 'OutputDataSet',
    null, null, null, 1, null, null, null, '{w}', null)"""
RUN = "script => 'OutputDataSet = [1]', workspace => '{w}'"
LINE = "encode(array_send(array[1.0]::float8[]), 'hex')"
QUERY = "array['x'], array['double precision'], array['float8']"
PREDICTION = """'{{"name": "prediction", "type": "double precision", "kind": "float8"}}'"""

# Every public function, and every function of the channel that runs with the owner's rights: how it is called for what is in
# the workspace, and who may.  A new function fails the test until it stands here.
CALLS: dict[str, tuple[str, set[str]]] = {
    "dbml.artifact_bytes(uuid,text)": ("select dbml.artifact_bytes('{run}', 'mark.txt') is not null", READERS),
    "dbml.cancel_script(uuid)": ("select dbml.cancel_script('{run}')", ADMINISTRATORS),  # it has ended; one that runs: below
    "dbml.create_environment(text,text,text,text,text,jsonb)": ("select dbml.create_environment('e', '!', workspace => '{w}')", WRITERS),
    "dbml.create_image(text,text[],jsonb,text,text,text,text,text,jsonb,jsonb,text)": (
        """select dbml.create_image('new', array['{w}'], '[{{"path": "score.py", "text": "x"}}]', environment => '{w}', workspace => '{w}')""",
        WRITERS),
    "dbml.delete_image(text,text)": ("select dbml.delete_image('{w}', '{w}')", WRITERS),
    "dbml.image_part(text,text,integer,text)": ("select dbml.image_part('{w}', 'score.py', 0, '{w}') is not null", READERS),
    "dbml.create_script(text,text,text,text,jsonb,jsonb,text)": (
        "select dbml.create_script('new', 'python', 'x = 1', workspace => '{w}')", WRITERS),
    "dbml.create_workspace(text,text,text,text,text,jsonb,boolean)": ("select dbml.create_workspace('{w}', exist_ok => true)", READERS),
    "dbml.delete_environment(text,text)": ("select dbml.delete_environment('{w}', '{w}')", WRITERS),
    "dbml.delete_model(text,text)": ("select dbml.delete_model('{w}', '{w}')", MODEL_WRITERS),
    "dbml.delete_script(text,text)": ("select dbml.delete_script('{w}', '{w}')", OWNERS),
    "dbml.execute_script(text,text,jsonb,text,text,text,text[],text[],integer,integer,text,text,interval,text,text,jsonb)": (
        f"call dbml.execute_script({RUN})", WRITERS),
    "dbml.grant_model(text,text,text,text)": ("select dbml.grant_model('{w}', '{stranger}', 'predict', '{w}') is not null", OWNERS),
    "dbml.grant_script(text,text,text)": ("select dbml.grant_script('{w}', '{stranger}', '{w}') is not null", OWNERS),
    "dbml.grant_workspace(text,text,text)": ("select dbml.grant_workspace('{w}', '{stranger}', 'reader') is not null", OWNERS),
    "dbml.model_bytes(text,text)": ("select dbml.model_bytes('{w}', '{w}') is not null", MODEL_READERS),
    "dbml.predict(text,double precision[],text)": ("select dbml.predict('{w}', array[1.0]) is not null", PREDICTORS),
    "dbml.predict(text,text,text)": ("select * from dbml.predict('{w}', 'select 1.0::float8 as x') as t(x float8, prediction float8)", PREDICTORS),
    "dbml.predict_into(text,text,text,text,text)": ("select dbml.predict_into('{w}', 'select 1.0::float8 as x', 'pg_temp.scored')", PREDICTORS),
    "dbml.predict_json(text,text,text)": ("select dbml.predict_json('{w}', 'select 1.0::float8 as x')", PREDICTORS),
    "dbml.predict_proba(text,double precision[],text)": ("select dbml.predict_proba('{w}', array[1.0])", PREDICTORS),
    "dbml.predict_row(text,anyelement,text)": ("select dbml.predict_row('{w}', jsonb_build_object('x', 1.0))", PREDICTORS),
    "dbml.register_model(text,bytea,text,text,jsonb,text,jsonb,jsonb,text,uuid,text,text)": (
        "select dbml.register_model('{w}', '\\x{hex}', workspace => '{w}')", MODEL_WRITERS),
    "dbml.revoke_model(text,text,text)": ("select dbml.revoke_model('{w}', '{model_predict}', '{w}')", OWNERS),
    "dbml.revoke_script(text,text,text)": ("select dbml.revoke_script('{w}', '{clerk}', '{w}')", OWNERS),
    "dbml.revoke_workspace(text,text)": ("select dbml.revoke_workspace('{w}', '{reader}')", OWNERS),
    "dbml.run_output(uuid,text)": ("select * from dbml.run_output('{run}', 'mark') as t(x bigint)", READERS),
    "dbml.run_plot(text,text,jsonb,jsonb,text,text,text,text[],text[],integer,integer,text,text,interval,text,text)": (
        f"select dbml.run_plot({RUN})", WRITERS),
    "dbml.run_script(text,text,jsonb,jsonb,text,text,text,text[],text[],integer,integer,text,text,interval,text,text)": (
        f"select * from dbml.run_script({RUN}) as t(x bigint)", WRITERS),
    "dbml.run_script_json(text,text,jsonb,jsonb,text,text,text,text[],text[],integer,integer,text,text,interval,text,text)": (
        f"select dbml.run_script_json({RUN})", WRITERS),
    "dbml.run_stored(text,text,jsonb,jsonb,text,text,text[],text[],integer,integer,text,text,interval,text,text)": (
        "select * from dbml.run_stored('{w}', workspace => '{w}') as t(x bigint)", {"owner", "clerk"}),
    "dbml.run_stored_json(text,text,jsonb,jsonb,text,text,text[],text[],integer,integer,text,text,interval,text,text)": (
        "select dbml.run_stored_json('{w}', workspace => '{w}')", {"owner", "clerk"}),
    "dbml.set_model_alias(text,text,text)": ("select dbml.set_model_alias('{w}', 'best', '{w}')", MODEL_WRITERS),
    "dbml.delete_service(text,text)": ("select dbml.delete_service('{w}', '{w}')", WRITERS),
    "dbml.deploy(text,text,text,text,text,jsonb,boolean,text,jsonb,jsonb,boolean,text)": (
        "select dbml.deploy('{w}', 'fresh', workspace => '{w}')", WRITERS),
    "dbml.regenerate_key(text,text,text,text)": ("select dbml.regenerate_key('{w}', 'Primary', workspace => '{w}')", WRITERS),
    "dbml.service_keys(text,text)": ("select primary_key from dbml.service_keys('{w}', '{w}')", WRITERS),
    "dbml.update_service(text,text,text,jsonb,boolean,text,jsonb,jsonb,text)": (
        "select dbml.update_service('{w}', workspace => '{w}')", WRITERS),
    "dbml.set_candidate(text,text,text,double precision,boolean,jsonb,text)": (
        "select dbml.set_candidate('{w}', traffic_percent => 5, workspace => '{w}')", WRITERS),
    "dbml.promote_candidate(text,text)": ("select dbml.promote_candidate('{w}', '{w}')", WRITERS),
    "dbml.rollback_service(text,integer,text)": ("select dbml.rollback_service('{w}', workspace => '{w}')", WRITERS),
    "dbml_channel.report_service(text,jsonb,text)": (
        """select dbml_channel.report_service('{w}', '{{"claim": "x"}}', '{w}')""", WRITERS),
    # Datasets, and where files are.
    "dbml.register_dataset(text,text,jsonb,jsonb,text[],text,text,jsonb,boolean,text)": (
        """select dbml.register_dataset('new', 'table', '{{"table": "x"}}', workspace => '{w}')""", WRITERS),
    "dbml.update_dataset(text,text,jsonb,text)": ("select dbml.update_dataset('{w}', 'told', workspace => '{w}')", WRITERS),
    "dbml.delete_dataset(text,text)": ("select dbml.delete_dataset('{w}', '{w}')", WRITERS),
    "dbml.dataset_query(text,text)": ("select dbml.dataset_query('{w}', '{w}')", READERS),
    "dbml.link_dataset(uuid,text,text,text)": ("select dbml.link_dataset('{run}', '{w}', 'again', '{w}') is not null", WRITERS),
    "dbml.profile(text,text,double precision[],text)": ("select * from dbml.profile(dataset => '{w}', workspace => '{w}')", READERS),
    "dbml.data_drift(text,text,text,text,integer,text)": (
        "select * from dbml.data_drift(reference_dataset => '{w}', dataset => '{w}', workspace => '{w}')", READERS),
    "dbml.write_file(text,bytea,boolean,text)": ("select dbml.write_file('new', 'x', workspace => '{w}')", WRITERS),
    "dbml.write_upload(text,bytea,boolean,text)": (
        "select dbml.write_upload('new', dbml.upload_bytes('x'), workspace => '{w}')", WRITERS),
    "dbml.read_file(text,text,text)": ("select dbml.read_file('{w}', '{w}')", READERS),
    "dbml.read_file_part(text,integer,text,text,boolean)": ("select dbml.read_file_part('{w}', 0, '{w}')", READERS),
    "dbml.delete_file(text,text)": ("select dbml.delete_file('{w}', '{w}')", WRITERS),
    "dbml.register_datastore(text,text,text,jsonb,jsonb,text,jsonb,boolean,text)": (
        "select dbml.register_datastore('new', 'local', '/new', workspace => '{w}')", WRITERS),
    "dbml.delete_datastore(text,text)": ("select dbml.delete_datastore('{w}', '{w}')", WRITERS),
    "dbml.set_default_datastore(text,text)": ("select dbml.set_default_datastore('{w}', '{w}') is not null", OWNERS),
    "dbml_channel.find_dataset(text,text,text)": ("select dbml_channel.find_dataset('{w}', '{w}') is not null", READERS),
    # Runs of programs, and what they keep.
    "dbml.start_run(text,text,jsonb,jsonb,jsonb,uuid,boolean,text)": ("select dbml.start_run('{w}', workspace => '{w}')", WRITERS),
    "dbml.delete_run(uuid)": ("select dbml.delete_run('{client}') from dbml.finish_run('{client}')", OWNERS),  # an administrator's
    "dbml.finish_run(uuid,text,text)": ("select dbml.finish_run('{client}')", WRITERS),
    "dbml.log_metric(uuid,text,double precision,bigint)": ("select dbml.log_metric('{client}', 'm', 1) is not null", WRITERS),
    "dbml.log_metrics(uuid,jsonb,uuid,bigint)": ("""select dbml.log_metrics('{client}', '{{"m": 1}}')""", WRITERS),
    "dbml.log_params(uuid,jsonb)": ("""select dbml.log_params('{client}', '{{"a": "b"}}')""", WRITERS),
    "dbml.tag_run(uuid,jsonb,text[])": ("""select dbml.tag_run('{run}', '{{"a": "b"}}')""", WRITERS),
    "dbml.add_run_properties(uuid,jsonb)": ("""select dbml.add_run_properties('{run}', '{{"a": "b"}}')""", WRITERS),
    "dbml.add_artifact(uuid,text,bytea,text,text,boolean)": (
        "select dbml.add_artifact('{run}', 'new', dbml.upload_bytes('x'))", WRITERS),
    "dbml.artifact_part(uuid,text,integer,boolean)": ("select dbml.artifact_part('{run}', 'mark.txt', 0)", READERS),
    "dbml.create_experiment(text,text,jsonb,text)": ("select dbml.create_experiment('new', workspace => '{w}')", WRITERS),
    "dbml.update_experiment(text,text,jsonb,text[],text)": ("select dbml.update_experiment('{w}', 'told', workspace => '{w}')", WRITERS),
    "dbml.delete_experiment(text,text)": (
        "select dbml.delete_experiment('gone', '{w}') from dbml.create_experiment('gone', workspace => '{w}')", WRITERS),
    "dbml.create_compute(text,text,jsonb,text,jsonb,text)": ("select dbml.create_compute('new', workspace => '{w}')", WRITERS),
    "dbml.delete_compute(text,text)": ("select dbml.delete_compute('{w}', '{w}')", WRITERS),
    "dbml.update_workspace(text,text,jsonb,text[])": ("select dbml.update_workspace('{w}', 'told')", OWNERS),
    "dbml.delete_workspace(text)": (  # with no run that goes on
        "select dbml.delete_workspace('{w}') from dbml_channel.take_back('{queued}'), dbml.finish_run('{client}')", OWNERS),
    "dbml.lineage(text,text)": ("select * from dbml.lineage('{w}', '{w}')", READERS),
    # Bytes under way belong to the role that sends them: nobody else's upload is there, not even for an owner.
    "dbml.begin_upload()": ("select dbml.begin_upload()", UPLOADERS),
    "dbml.upload_bytes(bytea)": ("select dbml.upload_bytes('x')", UPLOADERS),
    "dbml.upload_part(uuid,integer,bytea,bytea)": ("select dbml.upload_part('{upload}', 0, 'y')", {"owner"}),
    "dbml.upload_parts(uuid)": ("select * from dbml.upload_parts('{upload}')", {"owner"}),
    "dbml.finish_upload(uuid,bytea,bigint)": ("select dbml.finish_upload('{upload}', sha256('x'), 1)", {"owner"}),
    "dbml.abandon_upload(uuid)": ("select dbml.abandon_upload('{upload}')", {"owner"}),
    # Models: their files, engines and policies.
    "dbml.model_part(text,integer,text,text,boolean)": ("select dbml.model_part('{w}', 0, 'model.pkl', '{w}')", MODEL_READERS),
    "dbml.register_model_files(text,jsonb,text,text,text,jsonb,text,jsonb,jsonb,jsonb,text,uuid,text,text)": (
        "select dbml.register_model_files('{w}', jsonb_build_array(jsonb_build_object('path', 'p', 'digest',"
        " encode(dbml.upload_bytes('x'), 'hex'))), workspace => '{w}')", MODEL_WRITERS),
    "dbml.tag_model(text,jsonb,text[],jsonb,text,jsonb,text)": (
        """select dbml.tag_model('{w}', '{{"a": "b"}}', workspace => '{w}')""", MODEL_WRITERS),
    "dbml.inspect_model(text,text)": ("select * from dbml.inspect_model('{w}', '{w}')", MODEL_READERS),
    "dbml.set_model_policy(text,text[],text[])": ("select dbml.set_model_policy('{w}', '{{safe}}') is not null", OWNERS),
    "dbml.compile_model(text,interval,text,text)": ("select dbml.compile_model('{w}', workspace => '{w}')", MODEL_WRITERS),
    "dbml.explain_predict(text,text)": ("select * from dbml.explain_predict('{w}', '{w}')", PREDICTORS),
    "dbml.export_sql(text,text,text)": ("select dbml.export_sql('{w}', workspace => '{w}')", MODEL_READERS),
    "dbml.export_onnx(text,text)": ("select dbml.export_onnx('{w}', '{w}')", MODEL_READERS),
    "dbml.set_model_engine(text,text,text)": ("select dbml.set_model_engine('{w}', 'python', '{w}')", MODEL_WRITERS),
    # Kept predictions, explanations, intervals.
    "dbml.maintain_predictions(text,text,text,text)": (
        "select dbml.maintain_predictions('{w}', 'pg_catalog.pg_am', '{w}_kept', '{w}')", PREDICTORS),
    "dbml.refresh_predictions(text,text)": ("select dbml.refresh_predictions('{w}.kept', '{w}')", OWNERS),
    "dbml.delete_maintained_predictions(text,text)": (
        "select dbml.delete_maintained_predictions('{w}.kept', '{w}')", MODEL_WRITERS),
    "dbml.explain_prediction(text,text,text)": (
        "select * from dbml.explain_prediction('{w}', 'select 1.0::float8 as x', '{w}')", WRITERS),
    "dbml.explain_prediction(text,anyelement,text)": (
        "select * from dbml.explain_prediction('{w}', jsonb_build_object('x', 1.0), '{w}')", WRITERS),
    "dbml.evaluate(text,text,text,text,text)": (
        "select * from dbml.evaluate('{w}', 'select 1.0::float8 as x, 2.0::float8 as y', 'y', workspace => '{w}')", WRITERS),
    "dbml.calibrate(text,text,text,double precision,text)": (
        "select * from dbml.calibrate('{w}', 'select 1.0::float8 as x, 2.0::float8 as y', 'y', 0.5, '{w}')", MODEL_WRITERS),
    "dbml.predict_interval(text,double precision[],double precision)": (
        "select * from dbml.predict_interval('{w}', array[1.0])", PREDICTORS),
    "dbml_channel.begin_maintained(text,text,regclass,text,text)": (
        "select dbml_channel.begin_maintained('{w}', '{w}', 'pg_catalog.pg_am', 'new', current_user::text)", PREDICTORS),
    "dbml_channel.finish_maintained(bigint,regclass)": ("select dbml_channel.finish_maintained({kept}, null)", OWNERS),
    "dbml_channel.kept_columns(bigint)": ("select (dbml_channel.kept_columns({kept})).keys", OWNERS),
    "dbml_channel.begin_refresh(bigint)": ("select dbml_channel.begin_refresh({kept}) is not null", OWNERS),
    "dbml_channel.find_maintained(text,text,text)": (
        "select (dbml_channel.find_maintained('{w}.kept', '{w}', 'refresh')).kept_id", OWNERS),
    "dbml_channel.end_maintained(text,text)": ("select dbml_channel.end_maintained('{w}.kept', '{w}')", MODEL_WRITERS),
    "dbml_channel.maintained_rows(bigint)": ("select dbml_channel.maintained_rows({kept})", READERS),
    "dbml_channel.follow_source()": ("select dbml_channel.follow_source()", EVERYBODY),  # a trigger: nobody calls it
    "dbml_channel.features_of(text,text)": ("select dbml_channel.features_of('{w}', '{w}')", MODEL_READERS),
    "dbml_channel.keep_calibration(text,double precision,double precision,bigint,text)": (
        "select dbml_channel.keep_calibration('{w}', 0.5, 1, 9, '{w}')", MODEL_WRITERS),
    "dbml_channel.calibration_of(text,double precision)": ("select dbml_channel.calibration_of('{w}', 0.9)", PREDICTORS),
    # Submitted runs.
    "dbml.create_snapshot(jsonb,bytea,text,text)": (
        """select dbml.create_snapshot('{{"a.py": "x"}}', workspace => '{w}')""", WRITERS),
    "dbml.snapshot_bytes(text,text)": ("select dbml.snapshot_bytes('{snapshot}', '{w}')", READERS),
    "dbml.snapshot_part(text,integer,text)": ("select dbml.snapshot_part('{snapshot}', 0, '{w}')", READERS),
    "dbml.submit_run(text,text,text,jsonb,jsonb,text,jsonb,text,interval,bigint,text,jsonb,jsonb,text,jsonb,uuid)": (
        "select dbml.submit_run('{w}', '{snapshot}', 'a.py', workspace => '{w}')", WRITERS),
    "dbml.run_log(uuid,integer)": ("select * from dbml.run_log('{run}')", READERS),
    "dbml.wait_for_run(uuid,interval)": ("select dbml.wait_for_run('{run}')", READERS),
    "dbml.replay(uuid,jsonb)": ("select * from dbml.replay('{run}')", WRITERS),
    # Pools belong to no workspace, and to administrators.
    "dbml.alter_pool(text,jsonb)": ("select dbml.alter_pool('default', '{{}}') is not null", ADMINISTRATORS),
    "dbml.create_pool(text,integer,integer,integer,integer,integer,interval,integer,boolean)": (
        "select dbml.create_pool('{w}') is not null", ADMINISTRATORS),
    "dbml.delete_pool(text)": ("select dbml.delete_pool('{w}') is not null", ADMINISTRATORS),
    "dbml.grant_pool(text,text,boolean)": ("select dbml.grant_pool('default', '{stranger}') is not null", ADMINISTRATORS),
    "dbml.revoke_pool(text,text)": ("select dbml.revoke_pool('default', '{stranger}')", ADMINISTRATORS),
    "dbml.rotate_keys(interval)": ("select dbml.rotate_keys('0') is not null", ADMINISTRATORS),
    # The channel.
    "dbml_channel.build_environment(bigint)": ("select dbml_channel.build_environment({env}) is not null", KNOWN),
    "dbml_channel.find_environment(text,text)": ("select dbml_channel.find_environment('{w}', '{w}')", KNOWN),
    "dbml_channel.find_model(text,text,text)": ("select dbml_channel.find_model('{w}', '{w}', 'predict')", ADMINISTRATORS),
    "dbml_channel.define_environment(text,jsonb,text)": ("select dbml_channel.define_environment('{w}', '{{}}', '{w}') is not null", WRITERS),
    "dbml_channel.find_snapshot(text,bigint)": ("select dbml_channel.find_snapshot('{snapshot}', {id})", READERS),
    "dbml_channel.find_workspace(text,text)": ("select dbml_channel.find_workspace('{w}')", READERS),
    "dbml_channel.forget_output(uuid,text)": ("select dbml_channel.forget_output('{run}', 'mark')", WRITERS),
    "dbml_channel.lend_model(text,text)": ("select dbml_channel.lend_model('{w}', '{w}') !~ '^refused'", MODEL_READERS),
    "dbml_channel.loaded_then(uuid,text)": ("select dbml_channel.loaded_then('{run}', '{w}') <> '{w}'", READERS),
    "dbml_channel.may(bigint,text)": ("select dbml_channel.may({id}, 'read')", READERS),
    "dbml_channel.may_use_model(bigint,text,text)": ("select dbml_channel.may_use_model({id}, '{w}', 'read')", MODEL_READERS),
    "dbml_channel.open_call(jsonb,text)": (f"select * from dbml_channel.open_call({REQUEST} || '{{{{\"inputs\": []}}}}')", WRITERS),
    "dbml_channel.open_scoring(text,text,text[],text[],text[],jsonb,text,text)": (
        f"select dbml_channel.open_scoring('{{w}}', '{{w}}', {QUERY}, {PREDICTION}, 'predict')", PREDICTORS),
    "dbml_channel.output_parts(uuid,text)": ("select * from dbml_channel.output_parts('{run}', 'mark')", READERS),
    "dbml_channel.prediction_type(text,text,text)": ("select dbml_channel.prediction_type('{w}', '{w}')", PREDICTORS),
    "dbml_channel.readable_models()": (
        "select exists (select from dbml_channel.readable_models() where workspace_id = {id})", {"model_read", "model_write"}),
    "dbml_channel.receive_model(jsonb,bigint)": (
        """select dbml_channel.receive_model('{{"name": "new", "digest": "00", "size": 1}}', {id})""", WRITERS),
    "dbml_channel.require(bigint,text)": ("select dbml_channel.require({id}, 'read') is not null", READERS),
    "dbml_channel.score_array(text,double precision[],text,text)": (
        "select (dbml_channel.score_array('{w}', array[1.0], 'predict', null)).number", PREDICTORS),
    "dbml_channel.score_call(text,text,text[],text[],text[])": (
        f"select (dbml_channel.score_call('{{w}}', null, {QUERY})).expression", PREDICTORS),
    "dbml_channel.score_record(text,jsonb,text)": ("""select dbml_channel.score_record('{w}', '{{"x": 1.0}}', null)""", PREDICTORS),
    "dbml_channel.score_one(text,text,text,text,text,text)": (
        f"select dbml_channel.score_one('{{w}}', '{{w}}', 'predict', 'row', {LINE})", PREDICTORS),
    "dbml_channel.submit(text,text,text,jsonb,jsonb,text,jsonb,text,interval,bigint,text,jsonb,jsonb,text,jsonb,uuid)": (
        "select dbml_channel.submit('{w}', '{snapshot}', 'a.py', '[]', '[]', null, '{{}}', null, null, null, 'worker', '{{}}', '{{}}', '{w}', '{{}}', null)",
        WRITERS),
    "dbml_channel.take_back(uuid)": ("select dbml_channel.take_back('{queued}')", WRITERS),  # the contributor's, who is no owner
    "dbml_channel.workspace_role(bigint)": ("select dbml_channel.workspace_role({id}) is not null", READERS | {"predictor"}),
    "dbml_channel.workspaces(text)": ("select {id} in (select dbml_channel.workspaces('read'))", READERS),
}  # fmt: skip

# They speak on the caller's own connection to the worker, which believes no request that open_call has not signed.
OF_THE_LINK = {
    "dbml_channel.abandon(text,text)", "dbml_channel.connect()", "dbml_channel.exchange(text)", "dbml_channel.receive()",
    "dbml_channel.send(text)", "dbml_channel.ask(jsonb)",
}  # fmt: skip

# 42501 and what does not exist for a stranger; an error of another kind is one that only who may gets.
DENIED = {"42501", "ML020", "ML036", "ML050", "ML051", "ML052", "ML053", "ML054", "ML055", "ML070"}
# Views that do not tell of workspaces, or only of what runs at this moment.
WITHOUT = {"dbml.active_scripts", "dbml.pools", "dbml.worker_status"}
OF_MODELS = {"dbml.models", "dbml.model_files", "dbml.certificates"}  # whoever may read a model sees it there, and no more


@pytest.fixture
def cast(db: Connection) -> Iterator[Cast]:
    """Yield the workspace and its roles."""
    with staged(db) as made, submitted(db, made):
        yield made


def settle(db: Connection, cast: Cast) -> None:
    """End the call that a role before has left open, and wait until the worker has written the end of its run."""
    db.execute("select dbml_channel.abandon('57014', 'its caller is done')")
    running = "select count(*) from dbml._runs where workspace_id = %s and source = 'worker' and status = 'running'"
    own = " and run_id::text <> all (%s)"  # what the cast itself has there
    for _ in range(100):
        if db.execute(running + own, [cast.workspace_id, [str(value) for value in cast.names.values()]]).fetchone() == (0,):
            return
        time.sleep(0.1)
    raise AssertionError("a run of the workspace does not end")


def attempt(db: Connection, cast: Cast, relation: str, statement: str) -> bool:
    """Tell whether a role gets what it calls for; whatever it does is rolled back."""
    before = None
    try:
        with db.transaction(force_rollback=True):
            if relation == "stranger":
                settle(db, cast)
                before = fingerprint(db, cast.workspace_id)
            db.execute(sql.SQL("set local role {}").format(sql.Identifier(cast.roles[relation])))
            db.execute(sql.SQL("set local dbml.workspace = {}").format(cast.mark))
            if (
                "build_environment" in statement or "create_environment" in statement
            ):  # by who may, the worker would set out to build it
                db.execute("set local statement_timeout = '300ms'")
            rows = db.execute(statement.format(**cast.names)).fetchall()  # type: ignore[arg-type]
            db.execute("reset role")
            assert before is None or fingerprint(db, cast.workspace_id) == before, f"a stranger has changed it: {statement}"
            return bool(rows) and rows[0][0] is not None and rows[0][0] is not False  # 0 is the ordinal of a part
    except psycopg.Error as error:
        return error.sqlstate not in DENIED and not (error.sqlstate == "ML009" and "exists" in str(error))


def test_every_function_lets_in_whom_the_workspace_lets_in(db: Connection, cast: Cast) -> None:
    listed = {
        row[0]
        for row in db.execute(
            """select format('%s.%s(%s)', n.nspname, p.proname, (select string_agg(format_type(t, null), ',' order by o)
                   from unnest(p.proargtypes) with ordinality u(t, o)))
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname in ('dbml', 'dbml_channel') and p.proname !~ '^_'
              and (n.nspname = 'dbml' or p.prosecdef)  -- an invoker's function can do nothing that its caller cannot"""
        )
    }
    assert listed - OF_THE_LINK == set(CALLS), "every public function must stand in CALLS, and what does must be there"
    wrong = [
        f"{relation} {'may' if relation in allowed else 'may not'}: {statement.format(**cast.names)[:90]}"
        for statement, allowed in CALLS.values()
        for relation in sorted(EVERYBODY)
        if attempt(db, cast, relation, statement) is not (relation in allowed)
    ]
    assert not wrong, "\n".join(wrong)


def views(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("select v::text from dbml_channel._views() v order by 1")]


def seen(db: Connection, view: str, mark: str) -> int:
    query = sql.SQL("select count(*) from {} v where v::text like {}").format(sql.SQL(view), f"%{mark}%")  # type: ignore[arg-type]
    return db.execute(query).fetchone()[0]  # type: ignore[index]


def test_every_view_shows_a_workspace_to_whom_it_lets_in(db: Connection, cast: Cast) -> None:
    for view in views(db):
        there = seen(db, view, cast.mark)
        assert (there > 0) is (view not in WITHOUT), f"{view} must have a row of the workspace, or be in WITHOUT"
        for relation in EVERYBODY - {"clerk", "predictor", "model_predict"}:
            with acting(db, cast.roles[relation]):
                count = seen(db, view, cast.mark)
            if view == "dbml.permissions":  # of others' rights an owner is told, of its own everybody
                assert (count > seen_of_itself(db, cast, relation)) is (relation == "owner"), (view, relation)
            elif relation in READERS:
                assert count == there, (view, relation)
            else:
                assert count == (there if relation in MODEL_READERS and view in OF_MODELS else 0), (view, relation)


def seen_of_itself(db: Connection, cast: Cast, relation: str) -> int:
    """Count the rights of a role that name the mark; those of a stranger do in its own name alone."""
    query = "select count(*) from dbml.permissions v where role = %s and v::text like %s"
    (count,) = db.execute(query, [cast.roles[relation], f"%{cast.mark}%"]).fetchone()  # type: ignore[misc]
    return int(count)


def test_a_view_asks_for_the_callers_workspaces_once_whatever_it_shows(db: Connection, cast: Cast) -> None:
    for view in set(views(db)) - WITHOUT:
        with db.transaction(force_rollback=True):
            db.execute(
                "insert into dbml._runs select (jsonb_populate_record(r, jsonb_build_object('run_id', gen_random_uuid()))).*"
                " from dbml._runs r, generate_series(1, 20) where r.run_id = %s",
                [cast.run_id],
            )
            db.execute("set local track_functions = 'all'")
            db.execute(sql.SQL("set local role {}").format(sql.Identifier(cast.roles["reader"])))
            before = asked_for_workspaces(db)
            shown = len(db.execute(f"select v::text from {view} v").fetchall())  # type: ignore[arg-type]
            # A function that returns a set is counted for each row of it: a few workspaces, and the end.
            assert asked_for_workspaces(db) - before <= 10, (view, shown)
            plan = [line for (line,) in db.execute(f"explain (verbose, costs off) select * from {view}")]  # type: ignore[arg-type]
        asked = [line.strip() for line in plan if "workspaces('" in line]
        assert asked and all(line.startswith("Output: dbml_channel.workspaces(") for line in asked), (view, asked)
        assert any("InitPlan" in line for line in plan), view


def asked_for_workspaces(db: Connection) -> int:
    """Return how often this session has called the functions that tell of rights, those that are not inlined."""
    query = """select coalesce(sum(calls), 0)::int from pg_stat_xact_user_functions
        where schemaname = 'dbml_channel' and funcname in ('workspaces', 'may', 'may_use_model', 'workspace_role', 'readable_models')"""
    return int(db.execute(query).fetchone()[0])  # type: ignore[index]


def test_every_table_of_a_workspace_is_secured_by_row(db: Connection, cast: Cast) -> None:
    open_ = db.execute(
        """select c.relname::text from pg_class c where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'r'
        and not c.relrowsecurity and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname in ('workspace_id', 'run_id', 'model_id', 'dataset_id', 'image_id'))"""
    ).fetchall()
    assert open_ == []
    tables = secured_tables(db)
    with db.transaction(force_rollback=True):
        db.execute(
            f"grant all on all tables in schema dbml to {cast.roles['reader']}, {cast.roles['contributor']}, {cast.roles['stranger']}"
        )  # type: ignore[arg-type]
        db.execute("set local session_replication_role = replica")  # who may delete is asked, not what refers to it
        there = fingerprint(db, cast.workspace_id)
        assert all(count > 0 for _, count, _ in there), there
        for relation in ("reader", "contributor", "stranger"):
            db.execute(sql.SQL("set local role {}").format(sql.Identifier(cast.roles[relation])))
            found = fingerprint(db, cast.workspace_id)
            assert found == there if relation != "stranger" else all(count == 0 for _, count, _ in found), relation
            for table, count, _ in there:
                with db.transaction(force_rollback=True):
                    changed = db.execute(f"delete from {table} where {tables[table]}", {"id": cast.workspace_id}).rowcount  # type: ignore[arg-type]
                may = relation == "contributor" and not table.endswith(("_grants", "_workspaces"))
                assert changed == (count if may else 0), (relation, table)
            db.execute("reset role")


def test_a_contributor_deletes_runs_of_his_own_alone(db: Connection, cast: Cast) -> None:
    with acting(db, cast.roles["contributor"]):
        (own,) = db.execute("select dbml.start_run('own', workspace => %s)", [cast.mark]).fetchone()  # type: ignore[misc]
        db.execute("select dbml.finish_run(%s), dbml.finish_run(%s)", [own, cast.client])
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
            db.execute("select dbml.delete_run(%s)", [cast.client])
        assert db.execute("select dbml.delete_run(%s)", [own]).fetchone() == (1,)
    with acting(db, cast.roles["owner"]):
        assert db.execute("select dbml.delete_run(%s)", [cast.client]).fetchone() == (1,)
